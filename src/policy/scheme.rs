//! How an `Authorization` field is read: a scheme, whose letters may be of either case, and what follows it.
//!
//! Says whether a field is of a scheme and nothing of whether what follows is right. Called wherever a token or
//! credentials are looked for in a field.

/// What follows a scheme and one space or more (RFC 9110 11.1, 11.4), without spaces around it; none if that is
/// nothing, or the scheme is another.
pub fn credentials<'v>(field: &'v [u8], scheme: &str) -> Option<&'v [u8]> {
    let (named, rest) = field.trim_ascii().split_at_checked(scheme.len())?;
    let spaced = rest.first() == Some(&b' ');
    let rest = rest.trim_ascii();
    let is_it = spaced && named.eq_ignore_ascii_case(scheme.as_bytes());
    (is_it && !rest.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::credentials;

    #[test]
    fn a_scheme_is_known_in_any_case_with_one_space_or_more_behind_it() {
        for field in [
            "Bearer tok",
            "bearer tok",
            "BEARER   tok",
            " bEaReR tok ",
            "Bearer \ttok",
        ] {
            assert_eq!(
                credentials(field.as_bytes(), "Bearer"),
                Some(&b"tok"[..]),
                "{field}"
            );
        }
        for field in [
            "",
            "Bearer",
            "Bearer ",
            "Bearertok",
            "Bearer\ttok",
            "Basic tok",
            "tok",
            "Bear er tok",
        ] {
            assert_eq!(credentials(field.as_bytes(), "Bearer"), None, "{field}");
        }
    }
}
