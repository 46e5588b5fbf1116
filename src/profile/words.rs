//! What a profile makes of answers, in words: for `explain`.
//!
//! Says what the tables say, case by case, and nothing that they do not.

use crate::policy::outcome::Outcome;
use crate::profile::rules::{Case, Created, Holds, Rules, Sign};
use std::fmt;

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(other) = self.based_on {
            write!(f, " (based on {other})")?;
        }
        f.write_str(" means it: ")?;
        for case in &self.cases {
            write!(f, "{case}; ")?;
        }
        f.write_str(
            "beyond that, no answer or a 5xx other than 501 is a failure, and other 4xx count for nothing",
        )
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, statuses) in self.statuses.iter().enumerate() {
            f.write_str(if place > 0 { ", " } else { "" })?;
            match (statuses.start(), statuses.end()) {
                (first, last) if first == last => write!(f, "{first}")?,
                (first, last) => write!(f, "{first}-{last}")?,
            }
        }
        write!(f, "{}", self.sign)?;
        match self.outcome {
            None => f.write_str(" counts as its status does")?,
            Some(Outcome::Success) => f.write_str(" is a success")?,
            Some(Outcome::Failure) => f.write_str(" is a failure")?,
            Some(Outcome::Throttled) => f.write_str(" is throttled")?,
            Some(Outcome::Neutral | Outcome::Abandoned) => f.write_str(" counts for nothing")?,
        }
        f.write_str(match self.created {
            None => "",
            Some(Created::NeverProcessed) => " and proves that nothing was processed",
            Some(Created::TurnedAway) => " and was turned away, which is no proof",
            Some(Created::Processed) => " and was processed",
            Some(Created::Unknown) => " and may have been processed",
        })
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sign::Status => Ok(()),
            Sign::Field(name, holds) => write!(f, " with {name}{holds}"),
            Sign::Member(members, holds) => write!(f, " with {}{holds}", members.join(" or ")),
            Sign::Flag { members, .. } => write!(f, " with {} = true", members.join(" or ")),
        }
    }
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holds::Anything => Ok(()),
            Holds::Word(words) => write!(f, " = {}", words.join(" or ")),
            Holds::Phrase(phrase) => write!(f, " that says {phrase:?}"),
        }
    }
}
