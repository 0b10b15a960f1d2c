// Which words of two captions are common to both, by the longest common subsequence; case and punctuation do not count.
function bare(word) {
  return word.toLowerCase().replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "") || word;
}

function compared(before, after) {
  const [a, b] = [before, after].map((text) => text.split(/\s+/).filter(Boolean));
  const [ka, kb] = [a, b].map((words) => words.map(bare));
  const longest = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      longest[i][j] = ka[i] === kb[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
  const marked = [a.map((word) => ({ word, common: false })), b.map((word) => ({ word, common: false }))];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (ka[i] === kb[j]) marked[0][i++].common = marked[1][j++].common = true;
    else if (longest[i + 1][j] >= longest[i][j + 1]) i++;
    else j++;
  }
  return { before: marked[0], after: marked[1], changed: marked.flat().filter((own) => !own.common).length };
}

// The words as nodes, runs of words that are not common inside one `tag`.
function marked(words, tag) {
  const nodes = [];
  for (let i = 0; i < words.length; ) {
    let end = i + 1;
    while (end < words.length && words[end].common === words[i].common) end++;
    const text = words.slice(i, end).map((own) => own.word).join(" ");
    nodes.push(words[i].common ? text : el(tag, {}, text));
    if (end < words.length) nodes.push(" ");
    i = end;
  }
  return nodes;
}
