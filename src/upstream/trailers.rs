//! How long the trailers of a body may be, in both directions.
//!
//! The library bounds them by what a whole head may have, which is more than anybody needs behind a body. Both bodies
//! ask here before they hand a frame on.

use bytes::Bytes;
use http_body::Frame;

/// The most bytes that they have as lines.
const MOST: usize = 16 * 1024;

/// Whether the frame is of trailers that are not passed on. To any other frame it costs a look at its kind.
pub fn are_too_long(frame: &Frame<Bytes>) -> bool {
    frame.trailers_ref().is_some_and(|fields| {
        let lines = fields.iter().map(|(name, value)| {
            // With a colon, a space and the line's end.
            name.as_str().len() + value.len() + 4
        });
        lines.sum::<usize>() > MOST
    })
}
