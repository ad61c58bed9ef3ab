//! The inputs of a training: packed tokens, the tokenizer, and the model to start from.

use burn::tensor::Device;
use contract::{Context, Result, StageError};
use tokens::packed::PackedTokens;
use tokens::text::{FILE, TextTokenizer};

use super::settings::Spec;
use super::trainer::Batch;
use crate::config::Gpt2Config;
use crate::folder::ModelFolder;
use crate::gpt2::Gpt2;
use crate::initial::initial_values_with;

/// The inputs that are read before a training starts.
#[derive(Debug)]
pub struct Inputs {
    /// The sequences to learn from.
    pub train: PackedTokens,
    /// The sequences to measure the loss on.
    pub valid: Option<PackedTokens>,
    /// The sizes of the model in training.
    pub config: Gpt2Config,
    /// The model to start from.
    init: Option<ModelFolder>,
}

impl Inputs {
    /// Opens the inputs and checks that they fit each other and the settings.
    ///
    /// # Errors
    /// Returns an error if they do not, or cannot be read.
    pub fn open(spec: &Spec, context: &Context) -> Result<Self> {
        let train = PackedTokens::open(context.inputs.tree("train")?)?;
        let valid = context.inputs.get("valid").map(PackedTokens::open).transpose()?;
        check_tokens(&train, valid.as_ref())?;
        if spec.keep_best && valid.is_none() {
            return Err(StageError::new("keep_best needs a validation loss, and the input 'valid' is not connected")
                .hint("connect 'valid', or leave keep_best out"));
        }
        let tokenizer = context.inputs.get("tokenizer").map(TextTokenizer::open).transpose()?;
        if let Some(tokenizer) = &tokenizer {
            check_tokenizer(&train, tokenizer)?;
        }
        let tree = context.inputs.get("init");
        let init = tree.map(ModelFolder::of).transpose()?;
        let config = match &init {
            Some(init) => {
                let before = init.config()?;
                spec.check_continues(&before, &train)?;
                if let (Some(tree), Some(tokenizer)) = (tree.filter(|tree| tree.file(FILE).is_some()), &tokenizer) {
                    check_ids(&TextTokenizer::open(tree)?, tokenizer)?;
                }
                Gpt2Config { vocabulary: train.vocabulary() as usize, ..before }
            }
            None => spec.sizes(&train)?,
        };
        Ok(Self { config: Gpt2Config { end_of_text: Some(train.end_of_text()), ..config }, train, valid, init })
    }

    /// Returns the model to start from, on a device.
    ///
    /// # Errors
    /// Returns an error if the files of `init` do not fit its sizes.
    pub fn model(&self, spec: &Spec, seed: u64, device: &Device) -> Result<Gpt2> {
        let Self { config, init, .. } = self;
        match init {
            Some(init) => Ok(init.load_resized(config.vocabulary, device)?.1),
            None => Gpt2::new(config, device, |tensor| {
                Ok::<_, StageError>(initial_values_with(config, seed, tensor, spec.residual()))
            }),
        }
    }
}

/// Reads sequences as a batch.
///
/// # Errors
/// Returns an error if a sequence cannot be read or contains an id outside the vocabulary.
pub fn read_batch(tokens: &PackedTokens, sequences: impl Iterator<Item = usize>) -> Result<Batch> {
    let (mut ids, mut count) = (Vec::new(), 0);
    for sequence in sequences {
        tokens.read(sequence, &mut ids)?;
        count += 1;
    }
    // Ids are below a vocabulary of at most 2³¹, which `check_tokens` ensures.
    Ok(Batch { ids: ids.into_iter().map(|id| id as i32).collect(), sequences: count })
}

/// Checks that ids which both tokenizers have mean the same: `init` was trained with the first, and continues with the other.
fn check_ids(init: &TextTokenizer, tokenizer: &TextTokenizer) -> Result<()> {
    let both = 0..init.vocabulary().min(tokenizer.vocabulary());
    let differs = |id: &u32| init.token_bytes(*id) != tokenizer.token_bytes(*id);
    let Some(id) = both.into_iter().find(differs) else { return Ok(()) };
    let text = |tokenizer: &TextTokenizer| tokenizer.decode(&[id]);
    Err(StageError::new(format!(
        "the model of 'init' was trained with another tokenizer: its token {id} is {:?}, that of the input 'tokenizer' {:?}",
        text(init),
        text(tokenizer)
    ))
    .hint("pack with the tokenizer of that model"))
}

/// Checks that the tokenizer's ids are those on which the model was trained.
fn check_tokenizer(train: &PackedTokens, tokenizer: &TextTokenizer) -> Result<()> {
    let (vocabulary, end_of_text) = (train.vocabulary(), train.end_of_text());
    if (vocabulary, end_of_text) == (tokenizer.vocabulary(), tokenizer.end_of_text()) {
        return Ok(());
    }
    Err(StageError::new(format!(
        "the tokens were packed with another tokenizer: {vocabulary} ids, end-of-text {end_of_text}, but the input \
         'tokenizer' has {} ids, end-of-text {}",
        tokenizer.vocabulary(),
        tokenizer.end_of_text()
    ))
    .hint("connect the tokenizer that the pack stage reads"))
}

fn check_tokens(train: &PackedTokens, valid: Option<&PackedTokens>) -> Result<()> {
    let hint = "a larger input, a larger share of it, or a shorter sequence_length in the pack stage";
    if train.sequences() == 0 {
        return Err(StageError::new("the training tokens contain no sequence").hint(hint));
    }
    if train.sequence_length() < 2 {
        return Err(StageError::new("sequences of one token have nothing to predict")
            .hint("raise sequence_length in the pack stage"));
    }
    if i32::try_from(train.vocabulary()).is_err() {
        return Err(StageError::new(format!("a vocabulary of {} is too large", train.vocabulary())));
    }
    let Some(valid) = valid else { return Ok(()) };
    if valid.sequences() == 0 {
        return Err(StageError::new("the validation tokens contain no sequence").hint(
            "disconnect the input 'valid', raise fraction in the split stage, or lower sequence_length in the pack stage",
        ));
    }
    let (one, other) = ((train.vocabulary(), train.end_of_text()), (valid.vocabulary(), valid.end_of_text()));
    if one != other || valid.sequence_length() < 2 || valid.sequence_length() > train.sequence_length() {
        return Err(StageError::new(format!(
            "the validation tokens (vocabulary {}, sequences of {}) do not fit the training tokens (vocabulary {}, sequences of {})",
            valid.vocabulary(),
            valid.sequence_length(),
            train.vocabulary(),
            train.sequence_length()
        ))
        .hint("connect both to the same pack stage"));
    }
    Ok(())
}
