//! What authorizes an attempt: the credential that we hold, and its successor where it was refused.

use super::{Journey, Tried};
use crate::credential::Credential;
use crate::proxy::outgoing::Outgoing;
use crate::proxy::refusal::Refusal;
use crate::proxy::turned_away::lacking;
use http::{HeaderName, HeaderValue, StatusCode};

impl Journey<'_> {
    /// The field that is added for the caller, in place of what the caller sent under its name.
    pub(super) async fn value(
        &mut self,
        credential: &Credential,
    ) -> Result<(HeaderName, HeaderValue), Refusal> {
        match self
            .unless_left(credential.value(self.waits.deadline))
            .await?
        {
            Ok(value) => {
                self.token = value.generation;
                Ok((credential.header.clone(), value.field))
            }
            Err(lack) => Err(lacking(&credential.name, &lack)),
        }
    }

    /// Whether a token of ours was refused and another has come, for a request that can go again: a
    /// 401 proves that it was not processed. Once for each exchange.
    pub async fn renews(&mut self, request: &Outgoing, tried: &Tried) -> Result<bool, Refusal> {
        let refused = match tried {
            Tried::Answered(answered) => answered.0.0.status() == StatusCode::UNAUTHORIZED,
            Tried::Lost(_) => false,
        };
        let (Some(credential), Some(token), true) = (self.way.credential, self.token, refused)
        else {
            return Ok(false);
        };
        if self.renewed || !request.is_replayable() {
            return Ok(false);
        }
        self.renewed = true;
        let renewing = self.unless_left(credential.renewed(token, self.waits.deadline));
        let renewed = Box::pin(renewing).await?;
        if renewed {
            self.counted = self.counted.saturating_sub(1);
        }
        Ok(renewed)
    }

    /// Whether a refused token of ours may lead to another attempt.
    pub(super) fn may_renew(&self) -> bool {
        !self.renewed
            && self
                .way
                .credential
                .is_some_and(|credential| credential.renews())
    }
}
