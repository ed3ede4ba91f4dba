//! SentencePiece's `.model` file: as much of its protocol buffer as a unigram tokenizer needs
//! (google/sentencepiece, `src/sentencepiece_model.proto`).

/// What a file says.
pub(super) struct SentencePieceModel<'a> {
    /// Pieces with their log probabilities, by id.
    pub pieces: Vec<(String, f64)>,
    /// Those that stand for no text, such as `</s>`.
    pub special: Vec<String>,
    /// The compiled normalisation of characters.
    pub character_map: Option<&'a [u8]>,
}

/// `trainer_spec.model_type`.
const UNIGRAM: u64 = 1;

/// `pieces.type`.
const NORMAL: u64 = 1;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// Reads a `.model` file; the error says what it is instead.
pub(super) fn parse(bytes: &[u8]) -> Result<SentencePieceModel<'_>, &'static str> {
    let mut model =
        SentencePieceModel { pieces: Vec::new(), special: Vec::new(), character_map: None };
    for field in fields(bytes) {
        match field? {
            (1, Value::Bytes(piece)) => {
                let (text, score, kind) = parse_piece(piece)?;
                if kind == CONTROL || kind == USER_DEFINED {
                    model.special.push(text.clone());
                }
                model.pieces.push((text, score));
            }
            (2, Value::Bytes(trainer)) => {
                let kind = fields(trainer).filter_map(Result::ok).find(|(number, _)| *number == 3);
                if kind.is_some_and(|(_, kind)| kind != Value::Number(UNIGRAM)) {
                    return Err("it is no unigram model");
                }
            }
            (3, Value::Bytes(normalizer)) => {
                for field in fields(normalizer) {
                    if let (2, Value::Bytes(map @ [_, ..])) = field? {
                        model.character_map = Some(map);
                    }
                }
            }
            _ => {}
        }
    }
    if model.pieces.is_empty() {
        return Err("it has no pieces");
    }
    Ok(model)
}

fn parse_piece(bytes: &[u8]) -> Result<(String, f64, u64), &'static str> {
    let (mut text, mut score, mut kind) = (String::new(), 0.0, NORMAL);
    for field in fields(bytes) {
        match field? {
            (1, Value::Bytes(piece)) => {
                text = String::from_utf8(piece.to_vec()).map_err(|_| "a piece is not UTF-8")?;
            }
            (2, Value::Float(value)) => score = f64::from(value),
            (3, Value::Number(value)) => kind = value,
            _ => {}
        }
    }
    Ok((text, score, kind))
}

/// The content of a protocol buffer field.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value<'a> {
    Number(u64),
    Float(f32),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message, by number.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u64, Value<'_>), &'static str>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = next_field(&mut bytes).ok_or("it is no protocol buffer");
        if field.is_err() {
            bytes = &[];
        }
        Some(field)
    })
}

fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = varint(bytes)?;
    let value = match tag & 7 {
        0 => Value::Number(varint(bytes)?),
        1 => {
            bytes.split_off(..8)?;
            Value::Other
        }
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            Value::Bytes(bytes.split_off(..length)?)
        }
        5 => Value::Float(f32::from_le_bytes(bytes.split_off(..4)?.try_into().ok()?)),
        _ => return None,
    };
    Some((tag >> 3, value))
}

/// Seven bits a byte, the lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
