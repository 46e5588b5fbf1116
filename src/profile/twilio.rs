//! Twilio: which host labels exist below `twilio.com`.
//!
//! The host is the product (`api`, `messaging`, …) with an optional edge and region, as in
//! `api.dublin.ie1`. The list is closed: an application's credentials go wherever the label
//! points, so a label that is not known here is not a host of ours.

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
pub(super) fn is_product_label(label: &str) -> bool {
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
