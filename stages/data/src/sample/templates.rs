//! The templates of functions, classes and the code around them.

/// The lines at the top.
pub(super) const IMPORTS: [&str; 6] = [
    "import math\n",
    "import re\n",
    "import os\n",
    "import json\n",
    "import numpy as np\n",
    "from collections import defaultdict\n",
];

/// The lines below the imports.
pub(super) const CONSTANTS: [&str; 4] = [
    "MAX_{n} = {m}\n",
    "DEFAULT_NAME = \"{noun}\"\n",
    "LIMITS = {\"{field}\": {n}, \"{other}\": {m}}\n",
    "NAMES = [\"{noun}\", \"{field}\", \"{other}\"]\n",
];

/// The end of a file.
pub(super) const MAINS: [&str; 2] = [
    "def main():\n    {nouns} = load_{nouns}(\"{nouns}.txt\")\n    for {noun} in {nouns}:\n        print({noun})\n\n\nif __name__ == \"__main__\":\n    main()\n",
    "if __name__ == \"__main__\":\n    for i in range({n}):\n        print(i, i * {m})\n",
];

/// Functions.
pub(super) const FUNCTIONS: [&str; 26] = [
    "def area_of_{noun}({a}: float, {b}: float):\n    \"\"\"Return the area of the {noun}.\"\"\"\n    return {a} * {b}\n",
    "def perimeter_of_{noun}({a}: float, {b}: float):\n    \"\"\"Return the perimeter of the {noun}.\"\"\"\n    return 2 * ({a} + {b})\n",
    "def total_{field}({nouns}):\n    \"\"\"Return the sum of the {field} of all {nouns}.\"\"\"\n    total = 0\n    for {noun} in {nouns}:\n        total += {noun}.{field}\n    return total\n",
    "def mean_{field}({nouns}):\n    \"\"\"Return the mean {field} of the {nouns}.\"\"\"\n    if not {nouns}:\n        return 0.0\n    return sum({noun}.{field} for {noun} in {nouns}) / len({nouns})\n",
    "def get_{nouns}_from_html(html):\n    \"\"\"Get all {nouns} in a HTML string.\"\"\"\n    if not html:\n        return []\n    return re.findall(r'<{noun} name=\"(.*?)\"', html)\n",
    "def get_urls_from_{noun}({noun}):\n    \"\"\"Get all embedded URLs in a {noun}.\"\"\"\n    return [url for url in re.findall(r'href=\"(.*?)\"', {noun}) if url]\n",
    "def mean(a):\n    \"\"\"Return the mean of a list.\"\"\"\n    return sum(a) / len(a)\n",
    "def mean_of_{nouns}(a):\n    \"\"\"Return the mean of an array of {nouns}.\"\"\"\n    return np.mean(a)\n",
    "def random_{nouns}(count):\n    \"\"\"Return a matrix of random {nouns}.\"\"\"\n    X = np.random.randn(count, {m})\n    y = np.random.randint(0, {n}, count)\n    return X, y\n",
    "def largest_{noun}({nouns}):\n    \"\"\"Return the {noun} with the largest {field}.\"\"\"\n    best = None\n    for {noun} in {nouns}:\n        if best is None or {noun}.{field} > best.{field}:\n            best = {noun}\n    return best\n",
    "def filter_{nouns}({nouns}, limit={m}):\n    \"\"\"Return the {nouns} whose {field} is below the limit.\"\"\"\n    result = []\n    for {noun} in {nouns}:\n        if {noun}.{field} < limit:\n            result.append({noun})\n    return result\n",
    "def count_{nouns}_by_{field}({nouns}):\n    \"\"\"Count the {nouns} for each {field}.\"\"\"\n    counts = {}\n    for {noun} in {nouns}:\n        key = {noun}[\"{field}\"]\n        counts[key] = counts.get(key, 0) + 1\n    return counts\n",
    "def load_{nouns}(path):\n    \"\"\"Read the {nouns} from a file, one on each line.\"\"\"\n    {nouns} = []\n    with open(path) as handle:\n        for line in handle:\n            line = line.strip()\n            if line:\n                {nouns}.append(line)\n    return {nouns}\n",
    "def save_{nouns}({nouns}, path):\n    \"\"\"Write the {nouns} to a file as JSON.\"\"\"\n    with open(path, \"w\") as handle:\n        json.dump({nouns}, handle, indent=2)\n",
    "def parse_{noun}(text):\n    \"\"\"Parse a {noun} from text such as 'name: {field}'.\"\"\"\n    name, _, {field} = text.partition(\":\")\n    if not {field}:\n        raise ValueError(\"no {field} in \" + text)\n    return name.strip(), int({field})\n",
    "def format_{noun}(name, {field}):\n    \"\"\"Return the {noun} as text.\"\"\"\n    return \"{noun} %s has {field} %d\" % (name, {field})\n",
    "def distance({a}, {b}):\n    \"\"\"Return the distance between two points.\"\"\"\n    return math.sqrt(({a}[0] - {b}[0]) ** 2 + ({a}[1] - {b}[1]) ** 2)\n",
    "def clamp_{field}({field}, low={n}, high={m}):\n    \"\"\"Keep the {field} between two limits.\"\"\"\n    if {field} < low:\n        return low\n    if {field} > high:\n        return high\n    return {field}\n",
    "def factorial(n):\n    \"\"\"Return the factorial of n.\"\"\"\n    result = 1\n    for i in range(2, n + 1):\n        result *= i\n    return result\n",
    "def fibonacci(n):\n    \"\"\"Return the first n numbers of the Fibonacci sequence.\"\"\"\n    numbers = []\n    {a}, {b} = 0, 1\n    while len(numbers) < n:\n        numbers.append({a})\n        {a}, {b} = {b}, {a} + {b}\n    return numbers\n",
    "def is_valid_{noun}({noun}):\n    \"\"\"Return whether the {noun} has a {field} and a {other}.\"\"\"\n    return \"{field}\" in {noun} and \"{other}\" in {noun}\n",
    "def sort_{nouns}({nouns}, reverse=False):\n    \"\"\"Sort the {nouns} by their {field}.\"\"\"\n    return sorted({nouns}, key=lambda {noun}: {noun}.{field}, reverse=reverse)\n",
    "def group_{nouns}({nouns}):\n    \"\"\"Group the {nouns} by their {other}.\"\"\"\n    groups = defaultdict(list)\n    for {noun} in {nouns}:\n        groups[{noun}.{other}].append({noun})\n    return groups\n",
    "def scale_{field}({nouns}, factor={n}):\n    \"\"\"Multiply the {field} of every {noun} by a factor.\"\"\"\n    for {noun} in {nouns}:\n        {noun}.{field} *= factor\n    return {nouns}\n",
    "def list_{noun}_files(folder):\n    \"\"\"Return the paths of all {noun} files in a folder.\"\"\"\n    paths = []\n    for name in sorted(os.listdir(folder)):\n        if name.endswith(\".{noun}\"):\n            paths.append(os.path.join(folder, name))\n    return paths\n",
    "def repeat_{noun}({noun}, times={n}):\n    \"\"\"Return a list with the {noun} many times.\"\"\"\n    result = []\n    i = 0\n    while i < times:\n        result.append({noun})\n        i += 1\n    return result\n",
];

/// Classes.
pub(super) const CLASSES: [&str; 5] = [
    "class {Class}:\n    \"\"\"A {noun} with a {field} and a {other}.\"\"\"\n\n    def __init__(self, {field}, {other}):\n        self.{field} = {field}\n        self.{other} = {other}\n\n    def __repr__(self):\n        return \"{Class}(%r, %r)\" % (self.{field}, self.{other})\n\n    def sum(self):\n        \"\"\"Return the {field} and the {other} together.\"\"\"\n        return self.{field} + self.{other}\n",
    "class {Class}List:\n    \"\"\"A list of {nouns}.\"\"\"\n\n    def __init__(self):\n        self.{nouns} = []\n\n    def add(self, {noun}):\n        self.{nouns}.append({noun})\n\n    def __len__(self):\n        return len(self.{nouns})\n\n    def total(self):\n        \"\"\"Return the total {field}.\"\"\"\n        return sum({noun}.{field} for {noun} in self.{nouns})\n",
    "class {Class}Counter:\n    \"\"\"Counts {nouns} by name.\"\"\"\n\n    def __init__(self, limit={m}):\n        self.limit = limit\n        self.counts = {}\n\n    def count(self, name):\n        if len(self.counts) < self.limit:\n            self.counts[name] = self.counts.get(name, 0) + 1\n        return self.counts.get(name, 0)\n",
    "class {Class}Error(Exception):\n    \"\"\"Raised when a {noun} has no {field}.\"\"\"\n\n    def __init__(self, {noun}, message=\"no {field}\"):\n        super().__init__(message)\n        self.{noun} = {noun}\n",
    "class {Class}Queue:\n    \"\"\"A queue of {nouns}, the oldest first.\"\"\"\n\n    def __init__(self):\n        self.items = []\n\n    def push(self, {noun}):\n        self.items.append({noun})\n        return self\n\n    def pop(self):\n        if not self.items:\n            raise IndexError(\"no {nouns}\")\n        return self.items.pop(0)\n",
];
