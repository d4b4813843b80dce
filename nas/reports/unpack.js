"use strict";
// The text of an element that holds it packed (gzip, base64).
async function unpack(element) {
  const bytes = Uint8Array.from(atob(element.textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

// Runs the scripts that lie packed in the page, in order; the promise is fulfilled after the last. The policy of the page
// allows their texts by hash.
async function runPacked() {
  for (const packed of document.querySelectorAll("script[type='application/gzip']")) {
    const script = document.createElement("script");
    script.textContent = await unpack(packed);
    document.head.append(script);
  }
}
