//! The story, chapter by chapter: each waits for what the proxy says of itself, and tells it.
//!
//! Nothing is told that was not seen. What does not happen in time ends the story with a reason.

use super::caller::{self, Reply};
use super::load::{self, Counts};
use super::stand_in::{Mood, StandIn};
use super::{Options, Places, shown};
use crate::clock::{self, Duration, Instant};
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::task::JoinSet;

/// How long the circuit stays open, in seconds of the story.
pub(super) const RECOVERY: f64 = 8.0;
/// The requests that a client may send at once.
pub(super) const BURST: u32 = 20;

/// The longest wait for anything, beyond what the story itself takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What tells the story.
pub(super) struct Story {
    places: Places,
    options: Options,
    vapi: Arc<StandIn>,
    file: String,
    counts: Counts,
    began: Instant,
}

impl Story {
    /// About to begin.
    pub(super) fn new(places: Places, options: Options, vapi: Arc<StandIn>, file: &Path) -> Story {
        Story {
            places,
            options,
            vapi,
            file: shown(file),
            counts: Counts::default(),
            began: clock::now(),
        }
    }

    /// From the calm to the end.
    pub(super) async fn tell(&self) -> Result<(), String> {
        tokio::select! {
            () = load::run(self.places.app, self.options.speed, &self.counts) => Ok(()),
            told = self.chapters() => told,
        }
    }

    async fn chapters(&self) -> Result<(), String> {
        self.introduce();
        self.calm().await?;
        self.outage().await?;
        self.probes().await?;
        self.duplicate().await?;
        self.greed().await?;
        self.end().await
    }

    fn introduce(&self) {
        let Places { app, admin, .. } = &self.places;
        let page = format!("http://{admin}/");
        write(&format!(
            "\
Trunkline, its demo: the real proxy between three small clients and stand-ins for
Vapi and Twilio, all in this process and on this machine. Nothing leaves it.

  the page     {page}
  the proxy    http://{app}   (try: curl -i http://{app}/vapi/assistant/asst-1)
  a terminal   trunkline --config {} status --watch
",
            self.file
        ));
    }

    /// One line of the story.
    fn say(&self, chapter: &str, words: &str) {
        let gone = clock::now().saturating_duration_since(self.began);
        write(&format!(
            "[{:>4.0} s] {chapter:<10} {words}",
            gone.as_secs_f64()
        ));
    }

    async fn pause(&self, seconds: f64) {
        let time = Duration::from_secs_f64(seconds / self.options.speed);
        tokio::time::sleep(time).await;
    }

    async fn calm(&self) -> Result<(), String> {
        self.pause(7.0).await;
        let counts = &self.counts;
        self.until("twenty calls", || async {
            Ok((counts.well.load(Relaxed) >= 20).then_some(()))
        })
        .await?;
        let (well, ill) = (counts.well.load(Relaxed), counts.ill.load(Relaxed));
        self.say(
            "calm",
            &format!("{well} calls answered, {ill} failed; both circuits are closed"),
        );
        Ok(())
    }

    async fn outage(&self) -> Result<(), String> {
        self.vapi.be(Mood::Failing);
        self.say("failure", "Vapi begins to answer 500");
        let vapi = self
            .circuit("the circuit of vapi to open", |b| b["state"] == "open")
            .await?;
        let reason = word(&vapi, "reason");
        self.say("open", &format!("the circuit of vapi opened: {reason}"));
        let (asked, twilio) = (self.vapi.asked(), self.counts.twilio.load(Relaxed));
        // On a machine that is late the circuit may be looking at its upstream again just now.
        let refused = self.until("a call during the outage to be refused", || async {
            let reply = self.ask("/vapi/assistant/asst-1", "curious", None).await?;
            Ok((reply.status == 503).then_some(reply))
        });
        let reply = refused.await?;
        let millis = reply.took.as_secs_f64() * 1000.0;
        self.say(
            "refused",
            &format!(
                "a call to vapi was refused in {millis:.1} ms: {}",
                reply.word("message")
            ),
        );
        self.pause(4.0).await;
        let twilio = self.counts.twilio.load(Relaxed) - twilio;
        let more = self.vapi.asked() - asked;
        self.say(
            "meanwhile",
            &format!("{twilio} calls to twilio went well; vapi was asked {more} times"),
        );
        Ok(())
    }

    async fn probes(&self) -> Result<(), String> {
        let opened_again = |b: &Value| b["opens_total"].as_u64() > Some(1);
        self.circuit("a probe to fail", opened_again).await?;
        self.say(
            "probe",
            "one call was let through to look; it failed, and the circuit is open again",
        );
        self.pause(3.0).await;
        self.vapi.be(Mood::Well);
        self.say(
            "recovery",
            "Vapi is well again; the next probes will find out",
        );
        let closed = |b: &Value| b["state"] == "closed";
        let vapi = self.circuit("the circuit of vapi to close", closed).await?;
        self.say(
            "closed",
            &format!("{}: calls flow again", word(&vapi, "reason")),
        );
        self.pause(4.0).await;
        Ok(())
    }

    async fn duplicate(&self) -> Result<(), String> {
        const CALL: &str =
            "{\"assistantId\":\"asst-1\",\"customer\":{\"number\":\"+15005550006\"}}";
        let placed = self.vapi.created();
        self.vapi.be(Mood::Forgetful);
        let first = self.ask("/vapi/call", "ada", Some(CALL)).await?;
        self.vapi.be(Mood::Well);
        expect(first.status == 502, "the answer of the call to be lost")?;
        self.say(
            "lost",
            "a phone call was placed, and its answer was lost on the way",
        );
        let second = self.ask("/vapi/call", "ada", Some(CALL)).await?;
        expect(second.status == 424, "the repeat to be refused")?;
        self.say(
            "guard",
            &format!(
                "the same call again was refused: {}",
                second.word("message")
            ),
        );
        let placed = self.vapi.created() - placed;
        expect(placed == 1, "exactly one call to be placed")?;
        self.say("once", "the stand-in placed one call, not two");
        self.pause(5.0).await;
        Ok(())
    }

    async fn greed(&self) -> Result<(), String> {
        let app = self.places.app;
        let path = "/twilio/2010-04-01/Accounts/AC1.json";
        let mut calls = JoinSet::new();
        for _ in 0..BURST * 3 {
            calls.spawn(async move { caller::call(app, path, "greedy", None).await });
        }
        let (mut passed, mut refused, mut words) = (0, 0, String::new());
        while let Some(call) = calls.join_next().await {
            let reply = call.map_err(|e| e.to_string())??;
            if reply.status == 429 {
                refused += 1;
                words = reply.word("message").to_owned();
            } else {
                passed += 1;
            }
        }
        expect(refused > 0, "a client to be limited")?;
        let words = format!(
            "one client sent too much at once: {passed} passed, {refused} were refused: {words}"
        );
        self.say("limit", &words);
        self.pause(3.0).await;
        Ok(())
    }

    async fn end(&self) -> Result<(), String> {
        let (well, ill) = (
            self.counts.well.load(Relaxed),
            self.counts.ill.load(Relaxed),
        );
        self.say("the end", &format!("{well} calls of the three clients went well, {ill} did not, all of those to vapi during its outage"));
        let page = format!("http://{}/", self.places.admin);
        if self.options.keep {
            self.say(
                "",
                &format!("the load goes on; look at {page} and end it with Ctrl-C"),
            );
            std::future::pending::<()>().await;
        }
        self.say(
            "",
            &format!("look at {page} for another moment; --keep would go on"),
        );
        self.pause(8.0).await;
        Ok(())
    }

    /// Waits until the circuit of vapi is so, and gives it as the API tells it.
    async fn circuit(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value, String> {
        self.until(what, || async {
            let reply = caller::call(self.places.admin, "/api/v1/breakers", "demo", None).await?;
            let list = reply.body.as_array().cloned().unwrap_or_default();
            let vapi = list.into_iter().find(|b| b["name"] == "vapi");
            Ok(vapi.filter(|vapi| is_so(vapi)))
        })
        .await
    }

    async fn until<T, F>(&self, what: &str, probe: impl Fn() -> F) -> Result<T, String>
    where
        F: Future<Output = Result<Option<T>, String>>,
    {
        let end = clock::now() + PATIENCE + Duration::from_secs_f64(30.0 / self.options.speed);
        while clock::now() < end {
            if let Some(found) = probe().await? {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        Err(format!("waited in vain for {what}"))
    }

    async fn ask(
        &self,
        path: &str,
        client: &str,
        body: Option<&'static str>,
    ) -> Result<Reply, String> {
        caller::call(self.places.app, path, client, body).await
    }
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn expect(is_so: bool, what: &str) -> Result<(), String> {
    match is_so {
        true => Ok(()),
        false => Err(format!("expected {what}")),
    }
}

/// One line to the terminal; a reader that went away has what it wanted.
fn write(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
