//! The signature of a message, as the Standard Webhooks specification (version 1) has it, so that its
//! libraries check it: an HMAC-SHA256 over id, time and body, in base64 behind `v1,`.
//!
//! A receiver that heeds the time cannot be shown an old message again; a repeated try is signed anew.

use super::settings::Settings;
use crate::clock::{self, SystemTime};
use crate::webhook::Hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The fields of a signed message: its time, and a signature for each secret that is valid now.
pub(super) struct Signed {
    pub(super) timestamp: String,
    pub(super) signature: String,
}

pub(super) fn sign(settings: &Settings, id: &str, body: &[u8], at: SystemTime) -> Signed {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let timestamp = since.as_secs().to_string();
    let mut signature = String::new();
    settings.secrets.each(clock::now(), |secret| {
        let mut context = secret.sign(Hash::Sha256);
        for piece in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(piece);
        }
        if !signature.is_empty() {
            signature.push(' ');
        }
        signature.push_str("v1,");
        STANDARD.encode_string(context.sign(), &mut signature);
    });
    Signed {
        timestamp,
        signature,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::clock::Duration;
    use crate::herald::settings::tests::somewhere;
    use crate::webhook::{Secrets, Written};

    #[test]
    fn the_example_of_the_specification_is_signed_as_there() {
        let mut settings = somewhere();
        let given = [
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(),
            "plain".into(),
        ];
        settings.secrets = Secrets::open(&given, vec![], Written::Standard, clock::now()).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_614_265_330);
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed = sign(&settings, id, b"{\"test\": 2432232314}", at);
        assert_eq!(signed.timestamp, "1614265330");
        let (first, second) = signed.signature.split_once(' ').unwrap();
        assert_eq!(first, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(second.starts_with("v1,") && second != first);
    }
}
