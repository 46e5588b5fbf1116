//! A client of server-sent events: waits for the next one of a kind. Each event comes in one piece, as the server
//! writes it in one.

use std::net::SocketAddr;

use serde_json::Value;

use super::client::{Client, get};

/// An open stream of events.
pub struct Stream {
    client: Client,
    /// How much of what came has been looked at.
    read: usize,
}

impl Stream {
    /// Opens a stream, from after event `heard` where that is given.
    #[track_caller]
    pub fn open(address: SocketAddr, path: &str, heard: Option<u64>) -> Self {
        let mut client = Client::connect(address);
        let mut request = get(path);
        if let Some(id) = heard {
            request = request.header("Last-Event-ID", &id.to_string());
        }
        client.start(&request);
        Self { client, read: 0 }
    }

    /// The data of the next event of that kind, with all others passed over.
    #[track_caller]
    pub fn next(&mut self, kind: &str) -> Value {
        let head = format!("event: {kind}\ndata: ");
        loop {
            let seen = self.client.seen();
            let rest = &seen[self.read..];
            let found = rest.find(&head).and_then(|at| {
                let begin = at + head.len();
                let end = begin + rest[begin..].find("\n\n")?;
                Some((begin, end))
            });
            if let Some((begin, end)) = found {
                let data = rest[begin..end].to_owned();
                self.read += end;
                return serde_json::from_str(&data).unwrap_or_else(|e| panic!("{e}: {data}"));
            }
            let length = seen.len();
            self.client.wait_for_more(length);
        }
    }
}
