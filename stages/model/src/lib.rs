//! GPT-2 on Burn: the model, its files in Hugging Face's format, training and generation.
//!
//! | module | contents |
//! |---|---|
//! | [`config`] | `Gpt2Config`: sizes, presets, the list of tensors |
//! | [`gpt2`] | `Gpt2`: the modules and their forward pass |
//! | [`initial`] | the first values of a model, drawn from a seed |
//! | [`parameters`] | a model's tensors as a flat list, and back |
//! | [`folder`] | `config.json` and `model.safetensors`, read and written |
//! | [`dropout`] | dropout by the identity of values |
//! | [`precision`] | the number format of matrix products |
//! | [`fused`] | operations of training in one pass over memory |
//! | [`device`] | the Burn device of a `contract::Device` |
//! | [`tensor_file`] | files of the safetensors format |
//! | [`import_model`] | the stage kind `import-model` |
//! | [`train`] | the stage kind `train` |
//! | [`generate`] | text generation |

pub mod config;
pub mod device;
pub mod dropout;
pub mod folder;
pub mod fused;
pub mod generate;
pub mod gpt2;
pub mod import_model;
pub mod initial;
pub mod parameters;
pub mod precision;
pub mod tensor_file;
#[cfg(test)]
mod test_values;
pub mod train;

pub use config::{Gpt2Config, Preset};
pub use gpt2::Gpt2;
pub use precision::Precision;
