use crate::{Broken, Limits, Program, Settings, Unavailable, Verdict};

/// On this system there is no sandbox: [`Sandbox::new`] says so.
pub enum Sandbox {}

impl Sandbox {
    /// Returns [`Unavailable::System`].
    pub fn new(_: Settings) -> Result<Self, Unavailable> {
        Err(Unavailable::System)
    }

    /// Cannot be called, since there is no sandbox.
    pub fn run(&self, _: &Program, _: &Limits) -> Result<Verdict, Broken> {
        match *self {}
    }
}
