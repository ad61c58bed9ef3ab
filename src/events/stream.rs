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

/// What events are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// People watch.
    Shown,
    /// A program asked for them on standard output.
    Printed,
    /// They are kept.
    Recorded,
}

impl Purpose {
    const fn text(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::Printed => "printed",
            Self::Recorded => "recorded",
        }
    }
}

/// Shows or keeps events.
pub trait Renderer: Send {
    /// Takes one event.
    ///
    /// # Errors
    /// When it cannot be written; the renderer is then not called again.
    fn event(&mut self, event: &Stamped) -> io::Result<()>;

    /// What it takes them for.
    fn purpose(&self) -> Purpose {
        Purpose::Shown
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
            Self::Json => Box::new(Json::new(Purpose::Printed, io::stdout())),
        }
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
    thread: Option<JoinHandle<Vec<Purpose>>>,
}

impl Renderers {
    /// Hands events to these renderers, and keeps them in `record`, a new file. A file that cannot be made or written is told
    /// of, and the run goes on.
    pub fn recording(mut renderers: Vec<Box<dyn Renderer>>, record: &Path) -> Self {
        match File::create_new(record) {
            Ok(file) => renderers.push(Box::new(Json::new(Purpose::Recorded, BufWriter::new(file)))),
            Err(error) => say!("warning: events are not recorded: {}: {error}", record.display()),
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

    /// Waits until every event sent so far is shown; dropping does the same. For what they were lost, which was told: a
    /// reader that went away lost nothing.
    pub fn finish(mut self) -> Vec<Purpose> {
        self.end()
    }

    fn end(&mut self) -> Vec<Purpose> {
        let Some(thread) = self.thread.take() else { return Vec::new() };
        let _ = self.sender.channel.send(Message::End);
        thread.join().unwrap_or_else(|_| {
            say!("warning: not all events were shown and recorded");
            vec![Purpose::Shown, Purpose::Printed, Purpose::Recorded]
        })
    }
}

impl Drop for Renderers {
    fn drop(&mut self) {
        self.end();
    }
}

/// Hands on what comes until the end; what renderers could not take was lost for these purposes.
fn drain(receiver: &Receiver<Message>, mut renderers: Vec<Box<dyn Renderer>>) -> Vec<Purpose> {
    let mut lost = Vec::new();
    let mut told = |done: io::Result<()>, purpose: Purpose| match done {
        Ok(()) => true,
        Err(error) => {
            // The reader of standard output or error may close it early; events.jsonl has no such reader.
            if purpose == Purpose::Recorded || error.kind() != io::ErrorKind::BrokenPipe {
                say!("warning: events are no longer {}: {error}", purpose.text());
                lost.push(purpose);
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
    lost
}
