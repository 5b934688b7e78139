//! Silero v6 in `tract`: how likely it is that somebody speaks, for each 32 ms of sound.
//! Owns the weights' pinned hash. It decides nothing: intervals are made of the probabilities elsewhere.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tract_onnx::prelude::*;

use super::SpeechError;

/// Samples per probability, at 16 kHz.
pub(super) const WINDOW: usize = 512;
/// Samples before a window that the model sees again.
const CONTEXT: usize = 64;
/// Width of the recurrent state.
const STATE: usize = 128;
/// SHA-256 of `silero_vad_v6.onnx` as its authors' package publishes it. Other weights would need other thresholds.
const MODEL_SHA256: [u8; 32] = [
    0x4c, 0xbf, 0x54, 0x9b, 0x83, 0x26, 0xf6, 0x0f, 0x80, 0xf2, 0x53, 0x6d, 0x9e, 0xef, 0xeb, 0x45,
    0x0a, 0x9a, 0xbe, 0x83, 0x36, 0x5a, 0x09, 0x80, 0x31, 0xc8, 0x97, 0x19, 0xf1, 0xbe, 0x17, 0xd2,
];

/// The weights on disk, and in memory after their first use. A file that is missing or wrong is looked at again the
/// next time, so that `make setup` heals a running daemon.
pub(super) struct ModelFile {
    path: PathBuf,
    loaded: Mutex<Option<Arc<TypedRunnableModel>>>,
}

impl ModelFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, loaded: Mutex::new(None) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A voice detector at the start of a sound. Reads and optimises the weights the first time (blocking).
    pub(super) fn detector(&self) -> Result<VoiceModel, SpeechError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = match &*loaded {
            Some(plan) => plan,
            None => loaded.insert(load(&self.path)?),
        };
        VoiceModel::new(plan)
    }
}

fn load(path: &Path) -> Result<Arc<TypedRunnableModel>, SpeechError> {
    let unusable = |why: String| {
        SpeechError::Model(format!(
            "the voice detector's model {} {why}; run `make setup`, or point CLIPSTREAM_VAD_MODEL at silero_vad_v6.onnx",
            path.display()
        ))
    };
    let bytes =
        std::fs::read(path).map_err(|error| unusable(format!("cannot be read ({error})")))?;
    if Sha256::digest(&bytes).as_slice() != MODEL_SHA256 {
        return Err(unusable("is not the pinned one (its SHA-256 differs)".into()));
    }
    let shaped = |shape: &[usize]| f32::fact(shape).into();
    let optimised = || {
        tract_onnx::onnx()
            .model_for_read(&mut bytes.as_slice())?
            .with_input_fact(0, shaped(&[1, CONTEXT + WINDOW]))?
            .with_input_fact(1, shaped(&[1, 1, STATE]))?
            .with_input_fact(2, shaped(&[1, 1, STATE]))?
            .into_optimized()?
            .into_runnable()
    };
    optimised().map_err(|error| unusable(format!("cannot be loaded ({error:#})")))
}

/// The model at one place of one sound.
pub(super) struct VoiceModel {
    state: TypedSimpleState,
    context: [f32; CONTEXT],
    hidden: TValue,
    cell: TValue,
}

impl VoiceModel {
    fn new(plan: &Arc<TypedRunnableModel>) -> Result<Self, SpeechError> {
        let zero = || Tensor::zero::<f32>(&[1, 1, STATE]).map(TValue::from);
        Ok(Self {
            state: plan.spawn().map_err(defect)?,
            context: [0.0; CONTEXT],
            hidden: zero().map_err(defect)?,
            cell: zero().map_err(defect)?,
        })
    }

    /// The probability of speech in the next window, given all windows before it.
    pub(super) fn probability(&mut self, window: &[f32; WINDOW]) -> Result<f32, SpeechError> {
        let mut input = [0.0; CONTEXT + WINDOW];
        input[..CONTEXT].copy_from_slice(&self.context);
        input[CONTEXT..].copy_from_slice(window);
        self.context.copy_from_slice(&window[WINDOW - CONTEXT..]);
        let input = Tensor::from_shape(&[1, CONTEXT + WINDOW], &input).map_err(defect)?;
        let inputs = tvec![input.into(), self.hidden.clone(), self.cell.clone()];
        let mut outputs = self.state.run(inputs).map_err(defect)?.into_iter();
        let (Some(probability), Some(hidden), Some(cell)) =
            (outputs.next(), outputs.next(), outputs.next())
        else {
            return Err(SpeechError::Internal("the voice detector gave too few outputs".into()));
        };
        (self.hidden, self.cell) = (hidden, cell);
        // Shape [1] or []: one number either way.
        probability.cast_to_scalar::<f32>().map_err(defect)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn defect(error: TractError) -> SpeechError {
    SpeechError::Internal(format!("the voice detector failed: {error:#}"))
}
