//! Tokens in a safetensors file: `level_1`, `level_2` ..., and the metadata in the header.

use std::collections::HashMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::metadata::Metadata;
use super::{Format, TokenFile, TokenFileError, arrays};

pub fn write(file: &TokenFile) -> Result<Vec<u8>, TokenFileError> {
    let levels = file.header.layout.levels();
    let data: Vec<Vec<u8>> = (0..levels).map(|level| arrays::bytes(file, level)).collect();
    let mut tensors = Vec::with_capacity(levels);
    for (level, data) in data.iter().enumerate() {
        let shape = arrays::shape(file, level).to_vec();
        let view = TensorView::new(Dtype::U16, shape, data).map_err(fail)?;
        tensors.push((arrays::name(level), view));
    }
    let lines = arrays::lines_bytes(file);
    if let Some(shape) = arrays::lines_shape(file) {
        let view = TensorView::new(Dtype::U16, shape.to_vec(), &lines).map_err(fail)?;
        tensors.push((arrays::LINES.to_string(), view));
    }
    // One entry only: the order of several would change from run to run.
    let text = serde_json::json!(Metadata::of(&file.header)).to_string();
    let metadata = HashMap::from([(arrays::METADATA.to_string(), text)]);
    safetensors::serialize(tensors, Some(metadata)).map_err(fail)
}

pub fn read(bytes: &[u8]) -> Result<TokenFile, TokenFileError> {
    let (_, head) = SafeTensors::read_metadata(bytes).map_err(fail)?;
    let text = head.metadata().as_ref().and_then(|m| m.get(arrays::METADATA)).ok_or_else(|| {
        let reason = format!("its header has no {}", arrays::METADATA);
        TokenFileError::damaged(Format::Safetensors, reason)
    })?;
    let header = Metadata::parse(Format::Safetensors, text)?.header(Format::Safetensors)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(fail)?;
    arrays::tokens(Format::Safetensors, header, |name| {
        let tensor = tensors.tensor(name).map_err(fail)?;
        if tensor.dtype() != Dtype::U16 {
            let reason = format!("{name} is of type {:?}, not U16", tensor.dtype());
            return Err(TokenFileError::damaged(Format::Safetensors, reason));
        }
        Ok((tensor.shape().to_vec(), tensor.data()))
    })
}

fn fail(error: SafeTensorError) -> TokenFileError {
    TokenFileError::damaged(Format::Safetensors, error.to_string())
}
