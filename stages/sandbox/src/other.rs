use crate::{Broken, Limits, Program, Settings, Unavailable, Verdict};

/// The sandbox of systems other than Linux: [`Sandbox::new`] returns an error.
pub enum Sandbox {}

impl Sandbox {
    /// Returns [`Unavailable::System`].
    pub fn new(_: Settings) -> Result<Self, Unavailable> {
        Err(Unavailable::System)
    }

    /// Cannot be called: no value of this type exists.
    pub fn python_version(&self) -> &str {
        match *self {}
    }

    /// Cannot be called: no value of this type exists.
    pub fn run(&self, _: &Program, _: &Limits) -> Result<Verdict, Broken> {
        match *self {}
    }
}
