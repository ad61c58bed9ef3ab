//! The stream from the threads that run stages to the renderers.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::Instant;

use super::event::{Event, Stamped};
use super::json::Json;
use super::renderer::{Purpose, Renderer};
use crate::stderr::stderr;

/// The maximum number of events that wait for the renderers.
const CAPACITY: usize = 4096;

enum Message {
    Event(Stamped),
    End,
}

/// Sends events from any thread. It is cheap to clone.
#[derive(Debug, Clone)]
pub struct EventSender {
    channel: SyncSender<Message>,
    started: Instant,
}

impl EventSender {
    /// Sends an event with the current time. If [`CAPACITY`] events are waiting, it blocks, except that progress is dropped: a later sample
    /// replaces it.
    pub fn send(&self, event: Event) {
        let is_replaced = matches!(event, Event::StageProgress { .. });
        let message = Message::Event(Stamped { at: self.started.elapsed().as_secs_f64(), event });
        // After `Renderers::finish` there is no receiver; the sender need not handle that.
        match is_replaced {
            true => drop(self.channel.try_send(message)),
            false => drop(self.channel.send(message)),
        }
    }
}

/// The thread that passes events to renderers.
#[derive(Debug)]
pub struct Renderers {
    sender: EventSender,
    thread: Option<JoinHandle<Vec<Purpose>>>,
}

impl Renderers {
    /// Passes events to the given renderers and to `record`, a new file. If the file cannot be created or written, a warning is printed and
    /// the run continues.
    pub fn recording(mut renderers: Vec<Box<dyn Renderer>>, record: &Path) -> Self {
        match File::create_new(record) {
            Ok(file) => renderers.push(Box::new(Json::new(Purpose::Recorded, BufWriter::new(file)))),
            Err(error) => stderr!("warning: events are not recorded: {}: {error}", record.display()),
        }
        Self::with(renderers)
    }

    /// Passes events to the given renderers.
    pub fn with(renderers: Vec<Box<dyn Renderer>>) -> Self {
        let (channel, receiver) = mpsc::sync_channel(CAPACITY);
        let thread = std::thread::spawn(move || drain(&receiver, renderers));
        Self { sender: EventSender { channel, started: Instant::now() }, thread: Some(thread) }
    }

    /// Returns a sender of events.
    pub fn sender(&self) -> EventSender {
        self.sender.clone()
    }

    /// Waits until every event sent so far is rendered, as does dropping. Returns the purposes for which events were lost and a warning was
    /// printed. A console closed early by its reader does not count as a loss.
    pub fn finish(mut self) -> Vec<Purpose> {
        self.end()
    }

    fn end(&mut self) -> Vec<Purpose> {
        let Some(thread) = self.thread.take() else { return Vec::new() };
        let _ = self.sender.channel.send(Message::End);
        thread.join().unwrap_or_else(|_| {
            stderr!("warning: not all events were shown and recorded");
            vec![Purpose::Shown, Purpose::Printed, Purpose::Recorded]
        })
    }
}

impl Drop for Renderers {
    fn drop(&mut self) {
        self.end();
    }
}

/// Passes events on until all senders are dropped. Returns the purposes for which events were lost.
fn drain(receiver: &Receiver<Message>, mut renderers: Vec<Box<dyn Renderer>>) -> Vec<Purpose> {
    let mut lost = Vec::new();
    let mut keep = |done: io::Result<()>, purpose: Purpose| match done {
        Ok(()) => true,
        Err(error) => {
            // The reader of standard output or error may close it early; events.jsonl has no such reader.
            if purpose == Purpose::Recorded || error.kind() != io::ErrorKind::BrokenPipe {
                stderr!("warning: events are no longer {}: {error}", purpose.text());
                lost.push(purpose);
            }
            false
        }
    };
    let mut next = receiver.recv().ok();
    while let Some(Message::Event(event)) = next {
        renderers.retain_mut(|renderer| keep(renderer.event(&event), renderer.purpose()));
        next = match receiver.try_recv() {
            Ok(message) => Some(message),
            Err(_) => {
                renderers.retain_mut(|renderer| keep(renderer.flush(), renderer.purpose()));
                receiver.recv().ok()
            }
        };
    }
    renderers.retain_mut(|renderer| keep(renderer.flush(), renderer.purpose()));
    lost
}
