use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Broken, Layer, Limits, Missing, Program, Reach, Settings, Unavailable, Verdict};

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
    pub fn layers(&self) -> &[Layer] {
        match *self {}
    }

    /// Cannot be called: no value of this type exists.
    pub fn run(&self, _: &Program, _: &Limits) -> Result<Verdict, Broken> {
        match *self {}
    }

    /// Cannot be called: no value of this type exists.
    pub fn run_unless(&self, _: &dyn Fn() -> bool, _: &Program, _: &Limits) -> Result<Verdict, Broken> {
        match *self {}
    }
}

/// Returns [`Unavailable::System`].
pub fn python_version(_: &Path) -> Result<String, Unavailable> {
    Err(Unavailable::System)
}

/// The sandbox for commands of systems other than Linux: [`CommandSandbox::new`] returns an error.
pub enum CommandSandbox {}

/// A type without values.
pub enum Supervisor {}

impl CommandSandbox {
    /// Returns [`Unavailable::System`].
    pub fn new(_: Reach) -> Result<Self, Unavailable> {
        Err(Unavailable::System)
    }

    /// Cannot be called: no value of this type exists.
    pub fn shows(&self, _: &Path) -> bool {
        match *self {}
    }

    /// Cannot be called: no value of this type exists.
    pub fn confine(&self, _: &mut Command) -> Result<Supervisor, Unavailable> {
        match *self {}
    }

    /// Cannot be called: no value of this type exists.
    pub fn take_back(&self) -> io::Result<()> {
        match *self {}
    }

    /// Returns [`Unavailable::System`].
    pub fn check() -> Result<&'static [Layer], Unavailable> {
        Err(Unavailable::System)
    }
}

impl Supervisor {
    /// Cannot be called: no value of this type exists.
    pub fn missing(&mut self, _: &io::Error) -> Vec<Missing> {
        match *self {}
    }

    /// Cannot be called: no value of this type exists.
    pub fn finish(self) -> Vec<PathBuf> {
        match self {}
    }
}
