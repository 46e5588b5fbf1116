//! What can be seen of a credential: its state, and never what it is.

use crate::clock::SystemTime;

/// Where a credential stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It can be used.
    Ready,
    /// Its first token has not come yet.
    Waiting,
    /// The last call for a token failed, and the present one still holds.
    Failing,
    /// There is no token, and the endpoint fails.
    Unavailable,
    /// It cannot be used until somebody has done something.
    Dead,
}

impl Phase {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Phase::Ready => "ready",
            Phase::Waiting => "waiting",
            Phase::Failing => "failing",
            Phase::Unavailable => "unavailable",
            Phase::Dead => "dead",
        }
    }

    /// The value of the gauge.
    pub fn value(self) -> f64 {
        match self {
            Phase::Ready => 0.0,
            Phase::Waiting => 1.0,
            Phase::Failing => 2.0,
            Phase::Unavailable => 3.0,
            Phase::Dead => 4.0,
        }
    }
}

/// What there is to see.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Where it stands.
    pub phase: Phase,
    /// When its present token ends.
    pub expires: Option<SystemTime>,
    /// When that came.
    pub last_refresh: Option<SystemTime>,
    /// What went wrong since.
    pub last_error: Option<String>,
}

impl Shown {
    /// Of a secret that is there, or not.
    pub fn fixed(lack: Option<String>) -> Self {
        Shown {
            phase: match lack {
                None => Phase::Ready,
                Some(_) => Phase::Dead,
            },
            expires: None,
            last_refresh: None,
            last_error: lack,
        }
    }
}
