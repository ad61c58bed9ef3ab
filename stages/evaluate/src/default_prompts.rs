//! The default prompts: the four examples of chapter 10 of "Natural Language Processing with Transformers" (Tunstall, von Werra, Wolf), each with the
//! length used there, in tokens of a vocabulary of 32,768.
//!
//! The book judges the completions by eye; the tests are our own. The sandbox has no packages, so a few functions replace NumPy, and a completion
//! of the last prompt, which needs scikit-learn, must only parse.

use crate::prompts::Prompt;

/// Returns a small function, a harder one, a translation to NumPy, and a use of scikit-learn.
pub fn default_prompts() -> Vec<Prompt> {
    let tested = |text: &str, setup: Option<&str>, tests: &str, solution: &str| Prompt {
        setup: setup.map(str::to_owned),
        tests: Some(tests.to_owned()),
        solution: Some(solution.to_owned()),
        ..Prompt::new(text, 64)
    };
    vec![
        tested(AREA, None, AREA_TESTS, "\n\n    return a * b"),
        tested(URLS, Some("import re"), URLS_TESTS, "\n\n    return re.findall(r'<a href=\"(.*?)\"', html)"),
        tested(MEAN, Some(NUMPY), MEAN_TESTS, "\n\n    return np.mean(a)"),
        Prompt { parses: true, ..Prompt::new(FOREST, 96) },
    ]
}

const AREA: &str = r#"def area_of_rectangle(a: float, b: float):
    """Return the area of the rectangle.""""#;

const AREA_TESTS: &str = "\
assert area_of_rectangle(2, 3) == 6
assert area_of_rectangle(0, 7) == 0
assert abs(area_of_rectangle(2.5, 4.2) - 10.5) < 1e-9
";

const URLS: &str = r#"def get_urls_from_html(html):
    """Get all embedded URLs in a HTML string.""""#;

const URLS_TESTS: &str = r#"html = '<p>See <a href="https://example.org/a">one</a> and <a href="http://example.org/b/c.html">two</a>.</p>'
assert sorted(get_urls_from_html(html)) == ["http://example.org/b/c.html", "https://example.org/a"]
assert list(get_urls_from_html("<p>none</p>")) == []
"#;

/// What replaces NumPy for the prompt below.
const NUMPY: &str = "\
import sys, types

numpy = types.ModuleType(\"numpy\")
numpy.array = numpy.asarray = list
numpy.size = len
numpy.sum = lambda a, axis=None: sum(a)
numpy.mean = numpy.average = lambda a, axis=None: sum(a) / len(a)
sys.modules[\"numpy\"] = numpy
";

const MEAN: &str = "\
# a function in native python:
def mean(a):
    return sum(a)/len(a)

# the same function using numpy:
import numpy as np
def mean(a):";

const MEAN_TESTS: &str = "\
assert mean([1, 2, 3]) == 2
assert mean([7]) == 7
assert abs(mean([0.5, 1, 3]) - 1.5) < 1e-9
";

const FOREST: &str = "\
X = np.random.randn(100, 100)
y = np.random.randint(0, 1, 100)

# fit random forest classifier with 20 estimators";
