"use strict";
// Runs the scripts that lie packed in the page (gzip, base64), in order; `unpacked` is fulfilled after the last. The
// policy of the page allows their texts by hash.
const unpacked = (async () => {
  for (const packed of document.querySelectorAll("script[type='application/gzip']")) {
    const bytes = Uint8Array.from(atob(packed.textContent), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }
})();
