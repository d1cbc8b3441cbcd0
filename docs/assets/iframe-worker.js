// A page that is opened as a file may start no worker, and the theme's search runs in one. For such
// pages this gives `Worker` another meaning: the script runs in a hidden frame, with the two
// functions by which a worker and its page write to each other.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      this.frame.contentWindow.postMessage = (data) => this.tell(this, data);
      const script = this.frame.contentDocument.createElement("script");
      script.src = new URL(url, location);
      script.onload = () => {
        const waiting = this.waiting;
        this.waiting = null;
        waiting.forEach((data) => this.tell(this.frame.contentWindow, data));
      };
      script.onerror = () => this.dispatchEvent(new Event("error"));
      this.frame.contentDocument.head.append(script);
    }

    postMessage(data) {
      if (this.waiting) {
        this.waiting.push(data);
      } else {
        this.tell(this.frame.contentWindow, data);
      }
    }

    terminate() {
      this.frame.remove();
    }

    tell(target, data) {
      setTimeout(() => target.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
