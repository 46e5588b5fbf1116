//! Secrets that the proxy holds for its callers: on every request, in place of what the caller sent; never for a
//! stranger, never in sight, and never where the name of the account is asked for.

mod callers;
mod fields;
mod login;
mod renewal;
mod tokens;
