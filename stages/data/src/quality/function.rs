//! The rules as a DataFusion function of `id` and `content`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringBuilder, StructArray, UInt32Builder};
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::cast::{as_string_array, as_struct_array};
use datafusion::common::internal_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use tokens::text::TextTokenizer;

use super::measures::Measures;
use super::rules::{RuleSet, detail};

/// Field of the result: the bits of the rules that remove the document.
pub(super) const MATCHED: &str = "matched";
/// Field of the result: the bits of the rules whose random draw keeps the document.
pub(super) const SPARED: &str = "spared";
/// Field of the result: the first rule that matched, or null.
pub(super) const FIRST: &str = "rule";
/// Field of the result: the measured value that this rule matched, or null.
pub(super) const MEASURED: &str = "detail";

/// The function `quality(id, content)`, which returns a struct of [`MATCHED`], [`SPARED`], [`FIRST`] and [`MEASURED`].
#[derive(Debug)]
pub(super) struct Quality {
    rules: RuleSet,
    tokenizer: Option<TextTokenizer>,
    identity: String,
    signature: Signature,
}

impl Quality {
    /// Creates the function for these rules, with the tokenizer that the rule on tokens needs.
    pub(super) fn new(rules: RuleSet, tokenizer: Option<TextTokenizer>) -> Self {
        let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable);
        Self { identity: format!("{rules:?}"), rules, tokenizer, signature }
    }

    /// Measures a text.
    fn measure(&self, content: &str) -> Result<Measures> {
        let mut measures = Measures::of(content);
        if let Some(tokenizer) = &self.tokenizer {
            let tokens = tokenizer.encode(content).map_err(|error| DataFusionError::External(Box::new(error)))?.len();
            measures.characters_per_token = (tokens > 0).then(|| measures.characters as f64 / tokens as f64);
        }
        Ok(measures)
    }
}

impl PartialEq for Quality {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Quality {}

impl Hash for Quality {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.hash(state);
    }
}

fn fields() -> Fields {
    Fields::from(vec![
        Field::new(MATCHED, DataType::UInt32, false),
        Field::new(SPARED, DataType::UInt32, false),
        Field::new(FIRST, DataType::Utf8, true),
        Field::new(MEASURED, DataType::Utf8, true),
    ])
}

impl ScalarUDFImpl for Quality {
    fn name(&self) -> &str {
        "quality"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(fields()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (id, content) = (as_string_array(&arrays[0])?, as_string_array(&arrays[1])?);
        let (mut matched, mut spared) = (UInt32Builder::new(), UInt32Builder::new());
        let (mut first, mut measured) = (StringBuilder::new(), StringBuilder::new());
        for (id, content) in id.iter().zip(content) {
            let measures = self.measure(content.unwrap_or_default())?;
            let matches = self.rules.matches(id.unwrap_or_default(), &measures);
            matched.append_value(matches.matched.0);
            spared.append_value(matches.spared.0);
            let rule = matches.matched.first();
            first.append_option(rule.map(|rule| rule.name()));
            measured.append_option(rule.map(|rule| detail(rule, &measures)));
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(matched.finish()),
            Arc::new(spared.finish()),
            Arc::new(first.finish()),
            Arc::new(measured.finish()),
        ];
        let matches: ArrayRef = Arc::new(StructArray::try_new(fields(), columns, None)?);
        Ok(ColumnarValue::Array(matches))
    }
}

/// The function `quality_<field>(matches)`, which returns a field of the result of [`Quality`]. DataFusion's optimiser
/// moves its own `get_field` with its argument into the scan, so that each use would measure the text again; it does
/// not move this function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct QualityField {
    name: String,
    field: &'static str,
    signature: Signature,
}

impl QualityField {
    /// Creates the function for a string field.
    pub(super) fn new(field: &'static str) -> Self {
        let signature = Signature::exact(vec![DataType::Struct(fields())], Volatility::Immutable);
        Self { name: format!("quality_{field}"), field, signature }
    }
}

impl ScalarUDFImpl for QualityField {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let field = as_struct_array(&arrays[0])?.column_by_name(self.field).cloned();
        field
            .map(ColumnarValue::Array)
            .ok_or_else(|| internal_datafusion_err!("the result of `quality` has no field '{}'", self.field))
    }
}
