//! What makes two creating requests the same one: a digest over everything the vendor would act on.
//!
//! Every field goes in with its length, so that bytes moved from one field to the next make another
//! key, and every kind of digest has a prefix of its own. Nothing here prints, keeps or compares a
//! credential: an account is the hash of what was sent, or the name of what we inject. Called by
//! the proxy before the guard is asked.

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN, digest};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

type Digest = [u8; SHA256_OUTPUT_LEN];

/// Whose account a request acts on.
#[derive(Clone, PartialEq, Eq)]
pub struct Account(Digest);

impl Account {
    /// The account of the Authorization fields that the client sent; none at all is an account too.
    pub fn sent(headers: &HeaderMap) -> Account {
        let mut fields = Fields::of("account: sent");
        for value in headers.get_all(AUTHORIZATION) {
            fields.add(value.as_bytes());
        }
        Account(fields.end())
    }

    /// The account of the credential of that name, whatever token stands behind it today.
    pub fn injected(name: &str) -> Account {
        let mut fields = Fields::of("account: injected");
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
        let mut fields = Fields::of("create");
        fields.add(&create.account.0);
        fields.add(create.method.as_str().as_bytes());
        fields.add(create.authority.as_bytes());
        fields.add(create.path.as_bytes());
        fields.maybe(create.query.map(str::as_bytes));
        fields.maybe(create.content_type.map(HeaderValue::as_bytes));
        fields.add(create.body);
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
        let mut fields = Fields::of("delivery");
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
        let mut key = [0; SHA256_OUTPUT_LEN];
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
        let (half, _) = self.0.split_at(SHA256_OUTPUT_LEN / 2);
        state.write(half);
    }
}

impl Scope {
    /// The scope of that key, as this client sent it on this route.
    pub fn of(account: &Account, client: &[u8], route: &str, key: &HeaderValue) -> Scope {
        let mut fields = Fields::of("idempotency");
        fields.add(&account.0);
        fields.add(client);
        fields.add(route.as_bytes());
        fields.add(key.as_bytes());
        Scope(fields.end())
    }

    /// The scope of an event that a route's vendor tells of, known by these parts together.
    pub fn event(route: &str, parts: &[&[u8]]) -> Scope {
        let mut fields = Fields::of("event");
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

/// Bytes that are gathered before they are hashed: most digests are of less, and hashing what is small piece
/// by piece takes several times as long as hashing it at once.
const GATHERED: usize = 512;

/// A digest in the making, of fields that cannot run into each other.
struct Fields {
    gathered: Vec<u8>,
    /// What did not fit is hashed already.
    begun: Option<Context>,
}

impl Fields {
    fn of(kind: &str) -> Fields {
        let mut fields = Fields {
            gathered: Vec::with_capacity(GATHERED),
            begun: None,
        };
        fields.add(b"trunkline 1");
        fields.add(kind.as_bytes());
        fields
    }

    fn add(&mut self, field: &[u8]) {
        self.piece(&(field.len() as u64).to_be_bytes());
        self.piece(field);
    }

    fn piece(&mut self, piece: &[u8]) {
        if self.gathered.len() + piece.len() <= GATHERED {
            return self.gathered.extend_from_slice(piece);
        }
        let begun = self.begun.get_or_insert_with(|| Context::new(&SHA256));
        begun.update(&self.gathered);
        begun.update(piece);
        self.gathered.clear();
    }

    fn maybe(&mut self, field: Option<&[u8]>) {
        self.add(if field.is_some() { b"some" } else { b"none" });
        self.add(field.unwrap_or_default());
    }

    fn end(self) -> Digest {
        let digest = match self.begun {
            None => digest(&SHA256, &self.gathered),
            Some(mut begun) => {
                begun.update(&self.gathered);
                begun.finish()
            }
        };
        let mut out = [0; SHA256_OUTPUT_LEN];
        for (place, byte) in out.iter_mut().zip(digest.as_ref()) {
            *place = *byte;
        }
        out
    }
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
        CreateKey::of(&Create {
            account: &account,
            method: &raw.method,
            authority: &raw.authority,
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
            path in "[ab]{0,2}",
            query in proptest::option::of("[ab]{0,2}"),
            content_type in proptest::option::of("[ab]{0,2}"),
            body in proptest::collection::vec(97u8..99, 0..3),
        ) -> Raw {
            let method = if post { Method::POST } else { Method::PUT };
            Raw { account, method, authority, path, query, content_type, body }
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
    fn a_digest_is_of_all_bytes_however_they_were_gathered() {
        for lengths in [
            vec![],
            vec![0, 1],
            vec![GATHERED],
            vec![100, GATHERED, 0, 100],
            vec![GATHERED - 50, 8, 8, 1],
            vec![5 * GATHERED, 5 * GATHERED],
        ] {
            let mut fields = Fields::of("x");
            let mut whole = Vec::new();
            let mut plainly = |field: &[u8]| {
                whole.extend((field.len() as u64).to_be_bytes());
                whole.extend(field);
            };
            plainly(b"trunkline 1");
            plainly(b"x");
            for (index, length) in lengths.iter().enumerate() {
                let field = vec![u8::try_from(index).unwrap(); *length];
                plainly(&field);
                fields.add(&field);
            }
            let whole = digest(&SHA256, &whole);
            assert_eq!(fields.end(), whole.as_ref(), "{lengths:?}");
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
