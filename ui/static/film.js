// Ends a recording at the longest film that is read. Gradio's recorder knows no limit, and a file
// larger than uploads may be is gone without a word.
const LIMIT = __SECONDS__ * 1000;
let since = 0;
const look = () => {
  if (!element.isConnected) return;
  const stop = document.querySelector('#hf-film [title="stop recording"]')?.closest('button');
  if (!stop) since = 0;
  else if (!since) since = Date.now();
  else if (Date.now() - since > LIMIT) { stop.click(); since = 0; }
  setTimeout(look, 200);
};
look();
