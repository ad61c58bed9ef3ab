//! The interface between the engine and the stage kinds; the lowest layer of the architecture.
//!
//! A stage kind implements [`Stage`]: two types of settings ([`Stage::Spec`] is hashed into the key, [`Stage::Exec`] is
//! not), typed ports, and a `run` that reads [`Inputs`], writes [`Outputs`] and reports [`Progress`]. The engine uses it
//! as a [`Kind`], with its types erased. Neither the engine nor a stage kind depends on the other.
//!
//! | module | contents |
//! |---|---|
//! | [`digest`] | `Digest`, a blake3 hash; `HashingWriter` |
//! | [`tree`] | `Tree`, an output: the list of its files |
//! | [`path`] | paths of settings |
//! | [`port`] | the types of the inputs and outputs that an edge of the graph connects |
//! | [`stage`] | `Stage`, the trait of a stage kind, and what it declares |
//! | [`kind`] | `Kind` and `AnyStage`, type-erased |
//! | [`context`] | the inputs, outputs and resources of a running stage |
//! | [`derived`] | files computed from one input alone, shared by stages |
//! | [`outputs`] | the output trees that a running stage writes |
//! | [`progress`] | rows, bytes or steps done, notes, metrics |
//! | [`resume`] | the checkpoint of an interrupted build |
//! | [`given`] | files from outside the store or, alternatively, from another stage |
//! | [`infer`] | facts, conflicts and costs inferred before anything runs |
//! | [`machine`] | what a stage requires of the machine, and what it used |
//! | [`figures`] | numbers formatted for people |
//! | [`text`] | untrusted text, escaped for a terminal |
//! | [`harness`] | runs one stage without the engine, for tests and benches |
//! | [`cancel`] | the flag that asks a running stage to stop |
//! | [`device`] | the compute device |
//! | [`draw`] | random choices from hash(seed, identity of the item) |
//! | [`error`] | errors with their location and a hint |

pub mod cancel;
pub mod context;
pub mod derived;
pub mod device;
pub mod digest;
pub mod draw;
pub mod error;
pub mod figures;
pub mod given;
pub mod harness;
pub mod infer;
pub mod kind;
pub mod machine;
pub mod outputs;
pub mod path;
pub mod port;
pub mod progress;
pub mod resume;
pub mod stage;
pub mod text;
pub mod tree;

pub use cancel::Cancel;
pub use context::{Context, InputFile, InputTree, Inputs, Resources, SourceFile};
pub use derived::{Derived, DerivedEntry};
pub use device::Device;
pub use digest::{Digest, HashingWriter};
pub use draw::Draw;
pub use error::{Problem, Result, StageError};
pub use given::{GivenFile, SourceOrInput};
pub use infer::{Advice, Conflict, ConflictText, Cost, Fact, Facts, Inferred, InputFacts, Origin, Shape};
pub use kind::{AnyStage, Kind};
pub use machine::MachineCheck;
pub use outputs::{OutputFile, OutputTree, Outputs, Staged};
pub use path::{push_key, setting_path};
pub use port::{InputPort, OutputPort, PortType, Ports, is_port_name};
pub use progress::{Note, Progress, Unit};
pub use resume::Checkpoint;
pub use stage::{Needs, SourcePattern, Stage};
pub use text::{printable, shortened, shortened_pair, shortened_to};
pub use tree::{Tree, TreeEntry, TreePath};
