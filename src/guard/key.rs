//! What makes two creating requests the same one: a digest over everything the vendor would act on.
//!
//! Every field goes in with its length, so that bytes moved from one field to the next make another
//! key, and every kind of digest has a prefix of its own. Nothing here prints, keeps or compares a
//! credential: an account is the hash of what was sent, or the name of what we inject. Called by
//! the proxy before the guard is asked.

use crate::guard::digest::{Digest, Parts};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

/// Whose account a request acts on.
#[derive(Clone, PartialEq, Eq)]
pub struct Account(Digest);

impl Account {
    /// The account of the Authorization fields that the client sent; none at all is an account too.
    pub fn sent(headers: &HeaderMap) -> Account {
        let mut fields = digest("account: sent");
        for value in headers.get_all(AUTHORIZATION) {
            fields.add(value.as_bytes());
        }
        Account(fields.end())
    }

    /// The account of the credential of that name, whatever token stands behind it today.
    pub fn injected(name: &str) -> Account {
        let mut fields = digest("account: injected");
        fields.add(name.as_bytes());
        Account(fields.end())
    }

    /// What tells it from every other, to be part of other digests.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account(..)")
    }
}

/// A creating request as it would go out, byte for byte.
#[derive(Clone, Copy)]
pub struct Create<'a> {
    /// On whose account.
    pub account: &'a Account,
    /// Usually POST.
    pub method: &'a Method,
    /// Host and port of the upstream.
    pub authority: &'a str,
    /// The host that it names there, where that is not the upstream's own.
    pub host: Option<&'a HeaderValue>,
    /// The path sent to the upstream, raw.
    pub path: &'a str,
    /// The query, raw; an empty one differs from none.
    pub query: Option<&'a str>,
    /// The body's type, as sent.
    pub content_type: Option<&'a HeaderValue>,
    /// The whole body.
    pub body: &'a [u8],
}

/// The identity of a creating request: equal for equal requests alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CreateKey(Digest);

impl CreateKey {
    /// The key of that request.
    pub fn of(create: &Create<'_>) -> CreateKey {
        let mut fields = digest("create");
        fields.add(&create.account.0);
        fields.add(create.method.as_str().as_bytes());
        fields.add(create.authority.as_bytes());
        fields.add(create.path.as_bytes());
        fields.maybe(create.query.map(str::as_bytes));
        fields.maybe(create.content_type.map(HeaderValue::as_bytes));
        fields.add(create.body);
        // Last, so that the keys of all who name no other host are those that state files hold.
        if let Some(host) = create.host {
            fields.add(host.as_bytes());
        }
        CreateKey(fields.end())
    }

    /// The key of a delivery that its sender calls so; most have no name.
    pub fn delivery(name: &[u8]) -> CreateKey {
        static UNNAMED: LazyLock<CreateKey> = LazyLock::new(|| CreateKey::named(b""));
        match name {
            [] => *UNNAMED,
            name => CreateKey::named(name),
        }
    }

    fn named(name: &[u8]) -> CreateKey {
        let mut fields = digest("delivery");
        fields.add(name);
        CreateKey(fields.end())
    }

    /// The name that people use for it: sixteen hexadecimal digits that tell nothing of the request.
    pub fn public_id(&self) -> String {
        self.hex().chars().take(16).collect()
    }

    /// All of it in hexadecimal, as the state file holds it.
    pub(super) fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::new(), |mut out, byte| {
            write!(out, "{byte:02x}").ok();
            out
        })
    }

    /// Reads what [`hex`](Self::hex) wrote.
    pub(super) fn from_hex(hex: &str) -> Option<CreateKey> {
        let mut key = Digest::default();
        if hex.len() != 2 * key.len() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for (place, pair) in key.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *place = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(CreateKey(key))
    }
}

impl fmt::Debug for CreateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CreateKey({})", self.public_id())
    }
}

/// Within what an `Idempotency-Key` means one thing: the account, the client, the route; or one event of a vendor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Scope(Digest);

impl Hash for Scope {
    /// Half of a digest tells it from others as well as all of it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (half, _) = self.0.split_at(self.0.len() / 2);
        state.write(half);
    }
}

impl Scope {
    /// The scope of that key, as this client sent it on this route.
    pub fn of(account: &Account, client: &[u8], route: &str, key: &HeaderValue) -> Scope {
        let mut fields = digest("idempotency");
        fields.add(&account.0);
        fields.add(client);
        fields.add(route.as_bytes());
        fields.add(key.as_bytes());
        Scope(fields.end())
    }

    /// The scope of an event that a route's vendor tells of, known by these parts together.
    pub fn event(route: &str, parts: &[&[u8]]) -> Scope {
        let mut fields = digest("event");
        fields.add(route.as_bytes());
        for part in parts {
            fields.add(part);
        }
        Scope(fields.end())
    }
}

impl Scope {
    /// All of it. It stands for the account too: it goes nowhere as it is.
    pub(super) fn bytes(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scope(..)")
    }
}

/// A digest in the making, of that kind.
fn digest(kind: &str) -> Parts {
    Parts::of("trunkline 1", kind)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Raw {
        account: u8,
        method: Method,
        authority: String,
        host: Option<String>,
        path: String,
        query: Option<String>,
        content_type: Option<String>,
        body: Vec<u8>,
    }

    fn key(raw: &Raw) -> CreateKey {
        let account = Account::injected(&raw.account.to_string());
        let content_type = raw
            .content_type
            .as_ref()
            .map(|v| HeaderValue::from_str(v).unwrap());
        let host = raw.host.as_ref().map(|v| HeaderValue::from_str(v).unwrap());
        CreateKey::of(&Create {
            account: &account,
            method: &raw.method,
            authority: &raw.authority,
            host: host.as_ref(),
            path: &raw.path,
            query: raw.query.as_deref(),
            content_type: content_type.as_ref(),
            body: &raw.body,
        })
    }

    prop_compose! {
        fn raw()(
            account in 0u8..2,
            post in any::<bool>(),
            authority in "[ab]{0,2}",
            host in proptest::option::of("[ab]{0,2}"),
            path in "[ab]{0,2}",
            query in proptest::option::of("[ab]{0,2}"),
            content_type in proptest::option::of("[ab]{0,2}"),
            body in proptest::collection::vec(97u8..99, 0..3),
        ) -> Raw {
            let method = if post { Method::POST } else { Method::PUT };
            Raw { account, method, authority, host, path, query, content_type, body }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn keys_are_equal_for_equal_requests_alone(a in raw(), b in raw()) {
            prop_assert_eq!(a == b, key(&a) == key(&b));
        }

        #[test]
        fn hexadecimal_comes_back_as_the_same_key(a in raw()) {
            let key = key(&a);
            prop_assert_eq!(CreateKey::from_hex(&key.hex()), Some(key));
        }
    }

    #[test]
    fn what_is_no_key_is_not_read_as_one() {
        for text in ["", "00", &"0".repeat(63), &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(CreateKey::from_hex(text), None, "{text}");
        }
    }

    #[test]
    fn an_account_is_what_was_sent_or_the_name_of_what_we_add() {
        let sent = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            Account::sent(&headers)
        };
        assert!(sent(&["Bearer a"]) == sent(&["Bearer a"]));
        let all = [
            sent(&[]),
            sent(&[""]),
            sent(&["Bearer a"]),
            sent(&["Bearer b"]),
            sent(&["Bearer a", "Bearer b"]),
            Account::injected(""),
            Account::injected("Bearer a"),
        ];
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                assert_eq!(i == j, a == b, "{i} {j}");
            }
        }
    }

    #[test]
    fn scopes_differ_by_account_client_route_and_key() {
        let (a, b) = (Account::injected("a"), Account::injected("b"));
        let key = |text: &'static str| HeaderValue::from_static(text);
        let base = Scope::of(&a, b"c", "r", &key("k"));
        assert_eq!(base, Scope::of(&a, b"c", "r", &key("k")));
        for other in [
            Scope::of(&b, b"c", "r", &key("k")),
            Scope::of(&a, b"cr", "", &key("k")),
            Scope::of(&a, b"c", "rk", &key("")),
            Scope::of(&a, b"c", "r", &key("K")),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let account = Account::injected("a");
        let key = HeaderValue::from_static("k");
        assert_eq!(format!("{account:?}"), "Account(..)");
        assert_eq!(
            format!("{:?}", Scope::of(&account, b"", "", &key)),
            "Scope(..)"
        );
    }
}
