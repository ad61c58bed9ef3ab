//! The sizes of the published models, and that the arithmetic counts what a module holds.

use burn::module::Module;
use burn::tensor::Device;
use model::initial::{Residual, initial_values, initial_values_with};
use model::parameters::{host_values, parameters};
use model::{Gpt2, Gpt2Config, Preset};

fn small(layers: usize) -> Gpt2Config {
    Gpt2Config { vocabulary: 300, positions: 20, width: 24, layers, heads: 3, end_of_text: None }
}

fn model(config: &Gpt2Config, seed: u64) -> Gpt2 {
    Gpt2::new(config, &Device::flex(), |tensor| Ok::<_, ()>(initial_values(config, seed, tensor))).unwrap()
}

#[test]
fn the_published_sizes_are_counted() {
    let millions = |preset| (Gpt2Config::preset(preset, 32_768, 1024).parameters() as f64 / 1e5).round() / 10.0;
    assert_eq!(millions(Preset::Gpt2), 111.0);
    assert_eq!(millions(Preset::Gpt2Medium), 336.9);
    assert_eq!(millions(Preset::Gpt2Large), 751.6);
    assert_eq!(millions(Preset::Gpt2Xl), 1529.6);
    // GPT-2 as it was released: 50,257 tokens.
    for (preset, parameters) in [
        (Preset::Gpt2, 124_439_808),
        (Preset::Gpt2Medium, 354_823_168),
        (Preset::Gpt2Large, 774_030_080),
        (Preset::Gpt2Xl, 1_557_611_200),
    ] {
        assert_eq!(Gpt2Config::preset(preset, 50_257, 1024).parameters(), parameters);
    }
}

#[test]
fn the_arithmetic_counts_what_the_module_holds() {
    for layers in 0..4 {
        let config = small(layers);
        let model = model(&config, 1);
        assert_eq!(config.parameters(), model.num_params());
        let sizes: Vec<_> = parameters(&model).iter().map(|tensor| tensor.dims()[0]).collect();
        assert_eq!(sizes, config.tensors().iter().map(|tensor| tensor.size()).collect::<Vec<_>>());
    }
}

#[test]
fn first_values_have_the_deviations_of_gpt2() {
    let config = Gpt2Config { vocabulary: 2000, width: 96, ..small(8) };
    for (tensor, values) in config.tensors().iter().zip(parameters(&model(&config, 1))) {
        let values = host_values(values).unwrap();
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / values.len() as f64;
        let (expected_mean, expected) = match tensor.name.as_str() {
            name if name.ends_with(".bias") => (0.0, 0.0),
            name if name.contains("ln_") => (1.0, 0.0),
            name if name.ends_with("c_proj.weight") => (0.0, 0.02 / 4.0),
            _ => (0.0, 0.02),
        };
        assert!((mean - expected_mean).abs() < 2e-3, "{}: mean {mean}", tensor.name);
        assert!((variance.sqrt() - expected).abs() <= 0.05 * expected, "{}: {}", tensor.name, variance.sqrt());
    }
}

#[test]
fn without_scaling_the_residual_projections_start_like_other_matrices() {
    let config = small(8);
    for tensor in config.tensors() {
        let [scaled, plain] =
            [Residual::Scaled, Residual::Plain].map(|residual| initial_values_with(&config, 1, &tensor, residual));
        let factor = if tensor.name.ends_with("c_proj.weight") { 4.0 } else { 1.0 };
        let equal = scaled.iter().zip(&plain).all(|(one, other)| (one * factor - other).abs() <= 1e-8);
        assert!(equal, "{}", tensor.name);
    }
}

#[test]
fn first_values_depend_on_the_seed_and_the_name_alone() {
    let (config, deeper) = (small(1), Gpt2Config { layers: 2, ..small(1) });
    let values = |config: &Gpt2Config, seed, name: &str| {
        let tensors = config.tensors();
        initial_values(config, seed, tensors.iter().find(|tensor| tensor.name == name).unwrap())
    };
    let one = values(&config, 1, "h.0.attn.c_attn.weight");
    assert_eq!(values(&deeper, 1, "h.0.attn.c_attn.weight"), one);
    assert_ne!(values(&config, 2, "h.0.attn.c_attn.weight"), one);
    assert_ne!(values(&deeper, 1, "h.1.attn.c_attn.weight"), one);
}

#[test]
fn first_values_are_equal_for_any_number_of_threads() {
    let config = Gpt2Config { vocabulary: 3001, width: 48, ..small(1) };
    let draw = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| initial_values(&config, 5, &config.tensors()[0]))
    };
    let one = draw(1);
    assert_eq!(draw(3), one);
    // Pinned: another generator or another order of draws would be another model for the same seed.
    assert_eq!(one[..3].iter().map(|value| value.to_bits()).collect::<Vec<_>>(), PINNED);
}

const PINNED: [u32; 3] = [3_169_916_684, 3_143_735_643, 999_666_434];
