//! Measures how fast a model trains on the CPU, and how long its checkpoint takes.
//!
//! `cargo bench --bench train_speed -- LAYERS WIDTH HEADS VOCABULARY BATCH SEQUENCE STEPS` prints tokens per second over all
//! steps but the first, and the size and time of one checkpoint.

use std::time::Instant;

use burn::tensor::Device;
use contract::{Cancel, StageError};
use model::initial::initial_values;
use model::train::adamw::AdamWSettings;
use model::train::checkpoint::Checkpoints;
use model::train::{Batch, Trainer};
use model::{Gpt2, Gpt2Config, Precision};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), StageError> {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let [layers, width, heads, vocabulary, sequences, positions, steps] =
        numbers.try_into().unwrap_or([4, 256, 4, 8192, 4, 256, 10]);
    let config = Gpt2Config { vocabulary, positions, width, layers, heads, end_of_text: None };
    let device = Device::flex().autodiff();
    let model = Gpt2::new(&config, &device, |tensor| Ok::<_, StageError>(initial_values(&config, 1, tensor)))?;
    let settings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, clip: 1.0 };
    let mut trainer = Trainer::new(&config, model, settings, Precision::F32, device);
    let id = |at: usize| ((at * 7919) % vocabulary) as i32;
    let batch = Batch { ids: (0..sequences * positions).map(id).collect(), sequences };
    let mut start = Instant::now();
    for step in 0..steps {
        let measured = trainer.update(std::slice::from_ref(&batch), 1e-3, &Cancel::default())?;
        println!("step {step}: loss {:.6}, gradient norm {:.6}", measured.loss, measured.gradient_norm);
        if step == 0 {
            start = Instant::now();
        }
    }
    let tokens = (steps - 1) * sequences * positions;
    println!(
        "{:.1}M parameters, {sequences} sequences of {positions}: {:.0} tokens/s",
        config.parameters() as f64 / 1e6,
        tokens as f64 / start.elapsed().as_secs_f64()
    );
    let folder = tempfile::tempdir()?;
    let start = Instant::now();
    Checkpoints::below(folder.path())?.save(1, 0.0, &config, &trainer, &[])?;
    let size = std::fs::metadata(folder.path().join("checkpoints/00000001/state.safetensors"))?.len();
    println!("checkpoint: {:.1} MiB in {:.2} s", size as f64 / f64::from(1 << 20), start.elapsed().as_secs_f64());
    Ok(())
}
