/// A candidate and its tests.
///
/// For a HumanEval problem: `candidate` is the prompt with its completion, `setup` is the prompt (a valid module, since
/// its last function has a docstring), `calls` is the entry point, and `tests` is the test with a line
/// `check(ENTRY_POINT)` after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Python source of the module under test. Untrusted.
    pub candidate: String,
    /// Python source that runs before the tests in their module: helpers and imports that they use. Trusted.
    pub setup: String,
    /// Names that the tests take from the candidate's module; they replace names of `setup`.
    pub calls: Vec<String>,
    /// Python source of the tests: they pass if it ends without an exception. Trusted.
    pub tests: String,
}
