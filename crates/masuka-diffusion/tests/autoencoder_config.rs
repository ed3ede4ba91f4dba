//! What an autoencoder's `config.json` may say, and how a refusal reads.

use masuka_diffusion::Result;
use masuka_diffusion::vaes::AutoencoderKlConfig;

/// Reads FLUX.1's configuration with `field` set to `value`.
fn read(field: &str, value: serde_json::Value) -> Result<AutoencoderKlConfig> {
    let mut config = serde_json::json!({
        "act_fn": "silu", "block_out_channels": [128, 256, 512, 512], "latent_channels": 16,
        "down_block_types": vec!["DownEncoderBlock2D"; 4], "up_block_types": vec!["UpDecoderBlock2D"; 4],
        "latents_mean": null, "latents_std": null, "layers_per_block": 2, "norm_num_groups": 32,
        "scaling_factor": 0.3611, "shift_factor": 0.1159, "sample_size": 1024,
        "use_quant_conv": false, "use_post_quant_conv": false,
    });
    config[field] = value;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.json");
    std::fs::write(&path, config.to_string()).expect("a file");
    AutoencoderKlConfig::read(&path)
}

fn check_refused(field: &str, value: serde_json::Value, message: &str) {
    let error = read(field, value).expect_err(field).to_string();
    assert!(error.contains("config.json`: ") && error.ends_with(message), "{error}");
}

#[test]
fn each_level_after_the_first_halves_the_picture() -> Result<()> {
    assert_eq!(read("layers_per_block", 2.into())?.spatial_factor(), 8);
    Ok(())
}

#[test]
fn no_shift_is_a_shift_of_nothing() -> Result<()> {
    assert_eq!(read("shift_factor", serde_json::Value::Null)?.shift_factor, 0.0);
    Ok(())
}

#[test]
fn what_is_not_supported_is_named_with_its_value_and_a_remedy() {
    check_refused("act_fn", "gelu".into(), "`act_fn` is `gelu`; use a model with `silu`");
    check_refused(
        "up_block_types",
        vec!["AttnUpDecoderBlock2D"; 4].into(),
        "`up_block_types` has `AttnUpDecoderBlock2D`; use a model with `UpDecoderBlock2D` only",
    );
    check_refused(
        "latents_mean",
        vec![0.5].into(),
        "`latents_mean` is [0.5]; use a model with `scaling_factor` and `shift_factor` alone",
    );
    check_refused(
        "norm_num_groups",
        48.into(),
        "`block_out_channels` has 128, which `norm_num_groups` 48 does not divide; copy the file again",
    );
    check_refused(
        "block_out_channels",
        vec![128, 256].into(),
        "`down_block_types` has 4 entries and `block_out_channels` 2; copy the file again",
    );
}
