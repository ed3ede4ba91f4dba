//! Parameters as one text, as AUTOMATIC1111, Forge and the tools around them write it: the prompt, then
//! `Negative prompt: …`, then a line of `Key: value` pairs. The format cannot quote a prompt whose lines look like
//! the other parts; our own pictures are therefore read from their JSON.

use std::fmt::Write;

use super::parameters::{LoraUse, Parameters};

const NEGATIVE_PREFIX: &str = "Negative prompt:";
/// A last line with fewer pairs is still prompt; the threshold of the original reader.
const MIN_SETTINGS: usize = 3;

/// Writes `parameters` as that text.
pub fn write(parameters: &Parameters) -> String {
    let mut text = parameters.prompt.trim().to_owned();
    for lora in &parameters.loras {
        let _ = write!(text, " <lora:{}:{}>", lora.name(), lora.weight);
    }
    if let Some(negative) = parameters.negative.as_deref().filter(|n| !n.trim().is_empty()) {
        let _ = write!(text, "\n{NEGATIVE_PREFIX} {}", negative.trim());
    }
    let settings: Vec<String> = settings(parameters)
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key}: {}", quoted(&value?))))
        .collect();
    text + "\n" + &settings.join(", ")
}

fn settings(p: &Parameters) -> Vec<(&'static str, Option<String>)> {
    let size = p.width.zip(p.height).map(|(width, height)| format!("{width}x{height}"));
    let hashes: Vec<String> = p
        .loras
        .iter()
        .filter_map(|lora| Some(format!("{}: {}", lora.name(), lora.autov3.as_ref()?)))
        .collect();
    vec![
        ("Steps", p.steps.map(|v| v.to_string())),
        ("Sampler", p.sampler.as_deref().map(capitalised)),
        ("CFG scale", p.true_cfg.map(|v| v.to_string())),
        ("Distilled CFG Scale", p.guidance.map(|v| v.to_string())),
        ("Seed", p.seed.map(|v| v.to_string())),
        ("Size", size),
        ("Model", p.model.clone()),
        ("Lora hashes", (!hashes.is_empty()).then(|| hashes.join(", "))),
        ("Version", p.version.clone()),
    ]
}

fn capitalised(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Values with a comma, colon or line break stand in JSON quotes.
fn quoted(value: &str) -> String {
    if value.contains([',', '\n', ':', '"']) {
        return serde_json::Value::from(value).to_string();
    }
    value.to_owned()
}

/// Reads what can be understood of `text`; the rest is ignored.
pub fn parse(text: &str) -> Parameters {
    let mut lines: Vec<&str> = text.trim().lines().collect();
    let pairs = lines.last().map(|line| pairs(line)).unwrap_or_default();
    let pairs = if pairs.len() < MIN_SETTINGS { Vec::new() } else { pairs };
    if !pairs.is_empty() {
        lines.pop();
    }
    let split = lines.iter().position(|line| line.trim_start().starts_with(NEGATIVE_PREFIX));
    let (prompt, negative) = lines.split_at(split.unwrap_or(lines.len()));
    let negative = negative.join("\n");
    let (prompt, loras) = take_loras(prompt.join("\n").trim());

    let mut parameters = Parameters { prompt, loras, ..Parameters::default() };
    if split.is_some() {
        let negative = negative.trim_start().trim_start_matches(NEGATIVE_PREFIX);
        parameters.negative = Some(negative.trim().to_owned());
    }
    for (key, value) in &pairs {
        apply(&mut parameters, key, value);
    }
    parameters
}

fn apply(p: &mut Parameters, key: &str, value: &str) {
    match key {
        "Steps" => p.steps = value.parse().ok(),
        "Sampler" => p.sampler = Some(value.to_lowercase()),
        "CFG scale" => p.true_cfg = value.parse().ok(),
        "Distilled CFG Scale" | "Distilled CFG scale" => p.guidance = value.parse().ok(),
        "Seed" => p.seed = value.parse().ok(),
        "Size" => {
            let sides = value.split_once('x');
            p.width = sides.and_then(|(width, _)| width.parse().ok());
            p.height = sides.and_then(|(_, height)| height.parse().ok());
        }
        "Model" => p.model = Some(value.to_owned()),
        "Version" => p.version = Some(value.to_owned()),
        "Lora hashes" => {
            for (name, hash) in value.split(", ").filter_map(|pair| pair.rsplit_once(": ")) {
                let known = p.loras.iter_mut().find(|lora| lora.name() == name);
                if let Some(lora) = known {
                    lora.autov3 = Some(hash.to_owned());
                }
            }
        }
        _ => {}
    }
}

/// The `Key: value` pairs of a settings line; commas within quotes do not end a value.
fn pairs(line: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once(':') {
        let key = before.rsplit(',').next().unwrap_or(before).trim();
        let after = after.trim_start();
        let (value, tail) = quoted_value(after).unwrap_or_else(|| {
            let (value, tail) = after.split_once(',').unwrap_or((after, ""));
            (value.trim().to_owned(), tail)
        });
        if is_key(key) {
            pairs.push((key.to_owned(), value));
        }
        rest = tail;
    }
    pairs
}

fn is_key(key: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || "_ -/".contains(c);
    key.chars().count() > 1 && key.starts_with(char::is_alphanumeric) && key.chars().all(inner)
}

/// A JSON string at the start of `text` that ends a pair, and what follows the pair.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let value = strings.next()?.ok()?;
    let tail = text[strings.byte_offset()..].trim_start();
    if tail.is_empty() { Some((value, "")) } else { Some((value, tail.strip_prefix(',')?)) }
}

/// Takes the `<lora:name:weight>` tags out of a prompt.
fn take_loras(prompt: &str) -> (String, Vec<LoraUse>) {
    let mut loras = Vec::new();
    let mut kept = String::new();
    let mut rest = prompt;
    while let Some(start) = rest.find("<lora:") {
        let Some(length) = rest[start..].find('>') else { break };
        kept.push_str(&rest[..start]);
        loras.extend(lora_tag(&rest[start + "<lora:".len()..start + length]));
        rest = &rest[start + length + 1..];
    }
    kept.push_str(rest);
    (kept.trim().to_owned(), loras)
}

/// `name:weight`, or `name` alone for a weight of 1.
fn lora_tag(tag: &str) -> Option<LoraUse> {
    let (name, weight) = tag.split_once(':').unwrap_or((tag, "1"));
    let weight = weight.split(':').next()?.parse().ok()?;
    Some(LoraUse { file: format!("{name}.safetensors"), weight, ..LoraUse::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Parameters {
        Parameters {
            prompt: "red apple, noto style".into(),
            negative: Some("blurry, dark".into()),
            true_cfg: Some(2.5),
            seed: Some(7),
            steps: Some(20),
            sampler: Some("euler".into()),
            guidance: Some(3.5),
            width: Some(128),
            height: Some(96),
            model: Some("starter".into()),
            version: Some("masuka 0.1.0".into()),
            ..Parameters::default()
        }
    }

    #[test]
    fn the_text_reads_as_forge_writes_it() {
        let expected = "red apple, noto style\nNegative prompt: blurry, dark\nSteps: 20, Sampler: Euler, \
            CFG scale: 2.5, Distilled CFG Scale: 3.5, Seed: 7, Size: 128x96, Model: starter, \
            Version: masuka 0.1.0";
        assert_eq!(write(&sample()), expected);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let lora = LoraUse {
            file: "my style.safetensors".into(),
            weight: -0.25,
            autov3: Some("0123456789ab".into()),
            ..LoraUse::default()
        };
        let second = LoraUse { file: "b.safetensors".into(), weight: 1.0, ..lora.clone() };
        for prompt in ["a \"quoted\" thing", "two\nlines: here", "苹果 🍎, Größe", "a, b: c, d: e"]
        {
            for loras in [vec![], vec![lora.clone()], vec![lora.clone(), second.clone()]] {
                let model = Some("odd, \"name\": v1".to_owned());
                let parameters = Parameters { prompt: prompt.into(), loras, model, ..sample() };
                assert_eq!(parse(&write(&parameters)), parameters, "{prompt}");
            }
        }
    }

    #[test]
    fn a_picture_of_forge_is_understood() {
        let text = "portrait, city <lora:Nurse outfit 512X768:0.75> <lora:b:1:0.5>\r\n\
            Steps: 25, Sampler: DPM++ 2M, Schedule type: Simple, CFG scale: 1, \
            Distilled CFG Scale: 3.5, Seed: 2961654875, Size: 896x1152, Model hash: d5d1e2a8b0, \
            Model: flux1-dev-Q8_0, Lora hashes: \"Nurse outfit 512X768: 1ba60a4cff60, b: b75b64b701c4\", \
            Version: f2.0.1v1.10.1-previous-313-g8a042934, Module 1: ae, Module 2: clip_l";
        let read = parse(text);
        assert_eq!(read.prompt, "portrait, city");
        assert_eq!(read.negative, None);
        assert_eq!((read.steps, read.seed), (Some(25), Some(2_961_654_875)));
        assert_eq!((read.width, read.height), (Some(896), Some(1152)));
        assert_eq!(read.sampler.as_deref(), Some("dpm++ 2m"));
        assert_eq!(read.model.as_deref(), Some("flux1-dev-Q8_0"));
        let loras: Vec<_> = read.loras.iter().map(|l| (l.name(), l.weight)).collect();
        assert_eq!(loras, [("Nurse outfit 512X768", 0.75), ("b", 1.0)]);
        assert_eq!(read.loras[0].autov3.as_deref(), Some("1ba60a4cff60"));
    }

    #[test]
    fn a_text_without_settings_is_all_prompt() {
        for text in
            ["just words", "time: noon, place: here", "", "<lora:open", "a\nNegative prompt:"]
        {
            let read = parse(text);
            assert_eq!((read.steps, read.seed, read.width), (None, None, None), "{text}");
        }
        assert_eq!(parse("time: noon, place: here").prompt, "time: noon, place: here");
        assert_eq!(parse("a\nNegative prompt:").negative.as_deref(), Some(""));
    }

    #[test]
    fn settings_that_make_no_sense_are_left_out() {
        let read = parse("x\nSteps: many, Seed: -1, Size: 12by7, CFG scale: \"7");
        assert_eq!(read, Parameters { prompt: "x".into(), ..Parameters::default() });
    }
}
