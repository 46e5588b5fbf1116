//! Twilio: which host labels exist below `twilio.com`, and what its answers and POSTs mean.
//!
//! The host is the product (`api`, `messaging`, …) with an optional edge and region, as in
//! `api.dublin.ie1`. The list is closed: an application's credentials go wherever the label
//! points, so a label that is not known here is not a host of ours. The list of harmless POSTs is
//! closed too: what is missing there is taken to create.

use super::{Dialect, generic};
use crate::profile::addresses::Place;
use crate::profile::rules::{Allowed, Case, Created, Creates, Field, Rules, Sign};
use http::HeaderName;

pub(super) fn rules() -> Rules {
    Rules {
        name: Dialect::Twilio.name().to_owned(),
        dialect: Dialect::Twilio,
        cases: vec![Case::throttled(429, Sign::Status, Created::NeverProcessed)],
        id: Some("sid".to_owned()),
        code: Some("code".to_owned()),
        request_id: Some(Field {
            name: HeaderName::from_static("twilio-request-id"),
            note: "twilio_request_id",
        }),
        concurrent: Some(Field {
            name: HeaderName::from_static("twilio-concurrent-requests"),
            note: "twilio_concurrent_requests",
        }),
        creates: Creates::posts_unless(&UPDATES),
        homes: vec!["https://{product}.twilio.com"],
        addresses: ADDRESSES.iter().map(|text| Place::parse(text)).collect(),
        hosts: vec![("product".to_owned(), Allowed::By(is_product_label))],
        ..generic::rules()
    }
}

/// Where the newer APIs name themselves by absolute addresses: a resource, and a page of a list of them.
const ADDRESSES: [&str; 8] = [
    "meta.first_page_url",
    "meta.next_page_url",
    "meta.previous_page_url",
    "meta.url",
    "url",
    "links.*",
    "*[].url",
    "*[].links.*",
];

/// POSTs that change one thing that exists already, so that twice is as good as once. Missing on
/// purpose, though they read as updates: those that take a payment, send something, ask for a paid
/// review, or act on whoever is next in a queue.
const UPDATES: [&str; 29] = [
    "/2010-04-01/Accounts/{AC}.json",
    "/2010-04-01/Accounts/{AC}/Addresses/{AD}.json",
    "/2010-04-01/Accounts/{AC}/Applications/{AP}.json",
    "/2010-04-01/Accounts/{AC}/Calls/{CA}.json",
    "/2010-04-01/Accounts/{AC}/Calls/{CA}/Recordings/{RE}.json",
    "/2010-04-01/Accounts/{AC}/Calls/{CA}/Siprec/{SR}.json",
    "/2010-04-01/Accounts/{AC}/Calls/{CA}/Streams/{MZ}.json",
    "/2010-04-01/Accounts/{AC}/Calls/{CA}/Transcriptions/{GT}.json",
    "/2010-04-01/Accounts/{AC}/Conferences/{CF}.json",
    "/2010-04-01/Accounts/{AC}/Conferences/{CF}/Participants/{CA}.json",
    "/2010-04-01/Accounts/{AC}/Conferences/{CF}/Recordings/{RE}.json",
    "/2010-04-01/Accounts/{AC}/ConnectApps/{CN}.json",
    "/2010-04-01/Accounts/{AC}/IncomingPhoneNumbers/{PN}.json",
    "/2010-04-01/Accounts/{AC}/Keys/{SK}.json",
    "/2010-04-01/Accounts/{AC}/Messages/{SM|MM}.json",
    "/2010-04-01/Accounts/{AC}/OutgoingCallerIds/{PN}.json",
    "/2010-04-01/Accounts/{AC}/Queues/{QU}.json",
    "/2010-04-01/Accounts/{AC}/Queues/{QU}/Members/{CA}.json",
    "/2010-04-01/Accounts/{AC}/SIP/CredentialLists/{CL}.json",
    "/2010-04-01/Accounts/{AC}/SIP/CredentialLists/{CL}/Credentials/{CR}.json",
    "/2010-04-01/Accounts/{AC}/SIP/Domains/{SD}.json",
    "/2010-04-01/Accounts/{AC}/SIP/IpAccessControlLists/{AL}.json",
    "/2010-04-01/Accounts/{AC}/SIP/IpAccessControlLists/{AL}/IpAddresses/{IP}.json",
    "/2010-04-01/Accounts/{AC}/SMS/ShortCodes/{SC}.json",
    "/2010-04-01/Accounts/{AC}/SigningKeys/{SK}.json",
    "/2010-04-01/Accounts/{AC}/Usage/Triggers/{UT}.json",
    "/v1/LinkShortening/Domains/{DN}/Certificate",
    "/v1/LinkShortening/Domains/{DN}/Config",
    "/v1/Services/{MG}",
];

/// The products that have a host of their own.
const PRODUCTS: [&str; 41] = [
    "accounts",
    "api",
    "assistants",
    "bulkexports",
    "chat",
    "content",
    "conversations",
    "events",
    "flex-api",
    "frontline-api",
    "iam",
    "insights",
    "intelligence",
    "ip-messaging",
    "knowledge",
    "lookups",
    "marketplace",
    "mcs",
    "media",
    "memory",
    "messaging",
    "monitor",
    "notify",
    "numbers",
    "oauth",
    "preview",
    "preview-iam",
    "pricing",
    "proxy",
    "routes",
    "serverless",
    "studio",
    "supersim",
    "sync",
    "taskrouter",
    "trunking",
    "trusthub",
    "verify",
    "video",
    "voice",
    "wireless",
];
const LATE_PRODUCTS: [&str; 1] = ["webhooks"];

/// Whether `label` is `product`, `product.region` or `product.edge.region`.
fn is_product_label(label: &str) -> bool {
    let mut parts = label.split('.');
    let product = parts.next().unwrap_or_default();
    let known = PRODUCTS.contains(&product) || LATE_PRODUCTS.contains(&product);
    known && label.len() <= 128 && parts.clone().count() <= 2 && parts.all(is_place)
}

/// An edge or region: a DNS label in lower case.
fn is_place(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=32).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_with_edge_and_region_are_known() {
        for label in [
            "api",
            "api.ie1",
            "api.dublin.ie1",
            "flex-api.sydney.au1",
            "webhooks",
        ] {
            assert!(is_product_label(label), "{label}");
        }
    }

    #[test]
    fn anything_else_is_no_host_of_ours() {
        for label in [
            "",
            "API",
            "evil",
            "api.",
            ".api",
            "api..ie1",
            "api.a.b.c",
            "api.dublin.ie1.evil.com",
            "api@evil",
            "api/evil",
            "api:443",
            "api%2eevil",
            "api.-x",
            "api.x-",
            "127.0.0.1",
        ] {
            assert!(!is_product_label(label), "{label}");
        }
    }
}
