//! The default prompts: the four examples of chapter 10 of "Natural Language Processing with Transformers"
//! (Tunstall, von Werra, Wolf), with the length of each, and the texts at which a completion is cut.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text to complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prompt {
    /// The text. An empty one starts a new document.
    pub text: String,
    /// The longest sequence in tokens, the prompt among them.
    #[serde(default = "max_length")]
    #[schemars(range(min = 1, max = 1 << 20))]
    pub max_length: usize,
}

fn max_length() -> usize {
    64
}

/// Returns a small function, a harder one, a translation to NumPy, and a use of scikit-learn.
pub fn default_prompts() -> Vec<Prompt> {
    let area = "def area_of_rectangle(a: float, b: float):\n    \"\"\"Return the area of the rectangle.\"\"\"";
    let urls = "def get_urls_from_html(html):\n    \"\"\"Get all embedded URLs in a HTML string.\"\"\"";
    let mean = "# a function in native python:\ndef mean(a):\n    return sum(a)/len(a)\n\n\
                # the same function using numpy:\nimport numpy as np\ndef mean(a):";
    let forest = "X = np.random.randn(100, 100)\ny = np.random.randint(0, 1, 100)\n\n\
                  # fit random forest classifier with 20 estimators";
    [(area, 64), (urls, 64), (mean, 64), (forest, 96)]
        .map(|(text, max_length)| Prompt { text: text.to_owned(), max_length })
        .into()
}

/// Returns the texts with which the next block begins.
pub fn default_stops() -> Vec<String> {
    ["\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif"].map(str::to_owned).into()
}
