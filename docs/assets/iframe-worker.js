// The search runs in a worker, which a page that is opened as a file may not start. For such pages,
// this class replaces `Worker`: the script runs in a hidden frame, and messages pass to and fro.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      this.frame.contentWindow.postMessage = (data) =>
        setTimeout(() => this.emit(new MessageEvent("message", { data })));
      const script = this.frame.contentDocument.createElement("script");
      script.src = new URL(url, location);
      script.onload = () => {
        const waiting = this.waiting;
        this.waiting = null;
        waiting.forEach((data) => this.send(data));
      };
      script.onerror = () => this.emit(new Event("error"));
      this.frame.contentDocument.head.append(script);
    }

    postMessage(data) {
      if (this.waiting) {
        this.waiting.push(data);
      } else {
        this.send(data);
      }
    }

    terminate() {
      this.frame.remove();
    }

    emit(event) {
      this[`on${event.type}`]?.(event);
      this.dispatchEvent(event);
    }

    send(data) {
      setTimeout(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
