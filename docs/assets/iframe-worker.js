// The search runs in a worker, which a page that is opened as a file may not start. For such pages,
// this class replaces `Worker`: the script runs in a hidden frame, and messages pass to and fro.
// Each side gets a copy of a message, as with a real worker. Without copies, a second search fails.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      this.frame.contentWindow.postMessage = (data) => this.deliver(data, (event) => this.emit(event));
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
        this.waiting.push(structuredClone(data));
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
      this.deliver(data, (event) => this.frame.contentWindow?.dispatchEvent(event));
    }

    deliver(data, target) {
      const event = new MessageEvent("message", { data: structuredClone(data) });
      setTimeout(() => target(event));
    }
  };
}
