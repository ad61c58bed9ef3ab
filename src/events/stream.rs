//! From whoever runs stages to the renderers.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Instant;

use super::bars::Bars;
use super::event::{Event, Stamped};
use super::json::Json;
use super::plain::Plain;
use super::quiet::Quiet;
use crate::say::say;

/// Shows or keeps events.
pub trait Renderer: Send {
    /// Takes one event.
    ///
    /// # Errors
    /// When it cannot be written; the renderer is then not called again.
    fn event(&mut self, event: &Stamped) -> io::Result<()>;

    /// What no longer happens where it fails.
    fn purpose(&self) -> &'static str {
        "shown"
    }

    /// Makes what was taken seen; called when no event waits.
    ///
    /// # Errors
    /// As [`Renderer::event`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bars on a terminal.
    Bars,
    /// Lines, without a terminal.
    Plain,
    /// Failures and warnings only.
    Quiet,
    /// The events as JSON lines on standard output.
    Json,
}

impl Mode {
    /// The mode that flags and the terminal ask for.
    pub fn choose(json: bool, quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match (json, quiet, io::stderr().is_terminal() && !dumb) {
            (true, ..) => Self::Json,
            (_, true, _) => Self::Quiet,
            (_, _, true) => Self::Bars,
            _ => Self::Plain,
        }
    }

    /// What shows a run so.
    pub fn renderer(self) -> Box<dyn Renderer> {
        match self {
            Self::Bars => Box::new(Bars::new()),
            Self::Plain => Box::new(Plain::new(anstream::stderr())),
            Self::Quiet => Box::new(Quiet::new(anstream::stderr())),
            Self::Json => Box::new(Json::new(io::stdout())),
        }
    }
}

/// The events as they are kept.
struct Record(Json<BufWriter<File>>);

impl Renderer for Record {
    fn event(&mut self, event: &Stamped) -> io::Result<()> {
        self.0.event(event)
    }

    fn purpose(&self) -> &'static str {
        "recorded"
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

enum Message {
    Event(Stamped),
    End,
}

/// Says what happens, from any thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventSender {
    channel: Sender<Message>,
    started: Instant,
}

impl EventSender {
    /// Says that something happened now.
    pub fn send(&self, event: Event) {
        let at = self.started.elapsed().as_secs_f64();
        // After `Renderers::finish` nobody listens any more, which is no matter of the sender.
        let _ = self.channel.send(Message::Event(Stamped { at, event }));
    }
}

/// The thread that hands events to renderers.
#[derive(Debug)]
pub struct Renderers {
    sender: EventSender,
    thread: Option<JoinHandle<()>>,
}

impl Renderers {
    /// Shows a run in this mode, from now on, and keeps its events in `record`, a new file. A file that cannot be made or
    /// written is reported to the log, and the run goes on.
    pub fn start(mode: Mode, record: Option<&Path>) -> Self {
        let mut renderers = vec![mode.renderer()];
        if let Some(path) = record {
            match File::create_new(path) {
                Ok(file) => renderers.push(Box::new(Record(Json::new(BufWriter::new(file))))),
                Err(error) => tracing::warn!(path = %path.display(), %error, "events are not recorded"),
            }
        }
        Self::with(renderers)
    }

    /// Hands events to these renderers.
    pub fn with(renderers: Vec<Box<dyn Renderer>>) -> Self {
        let (channel, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || drain(&receiver, renderers));
        Self { sender: EventSender { channel, started: Instant::now() }, thread: Some(thread) }
    }

    /// To say what happens.
    pub fn sender(&self) -> EventSender {
        self.sender.clone()
    }

    /// Waits until every event sent so far is shown; dropping does the same.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Renderers {
    fn drop(&mut self) {
        let _ = self.sender.channel.send(Message::End);
        if self.thread.take().map(JoinHandle::join).is_some_and(|done| done.is_err()) {
            say!("warning: not all events were shown and recorded");
        }
    }
}

fn drain(receiver: &Receiver<Message>, mut renderers: Vec<Box<dyn Renderer>>) {
    let told = |done: io::Result<()>, purpose: &str| match done {
        Ok(()) => true,
        Err(error) => {
            if error.kind() != io::ErrorKind::BrokenPipe {
                say!("warning: events are no longer {purpose}: {error}");
            }
            false
        }
    };
    let mut next = receiver.recv().ok();
    while let Some(Message::Event(event)) = next {
        renderers.retain_mut(|renderer| told(renderer.event(&event), renderer.purpose()));
        next = match receiver.try_recv() {
            Ok(message) => Some(message),
            Err(_) => {
                renderers.retain_mut(|renderer| told(renderer.flush(), renderer.purpose()));
                receiver.recv().ok()
            }
        };
    }
    renderers.retain_mut(|renderer| told(renderer.flush(), renderer.purpose()));
}
