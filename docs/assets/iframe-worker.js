// Browsers start no workers for pages that are opened as files; the search then runs in a frame.
if (location.protocol === "file:") {
  window.Worker = class IFrameWorker extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.append(this.frame)
      this.frame.answer = data => {
        const event = new MessageEvent("message", { data })
        this.dispatchEvent(event)
        if (this.onmessage) this.onmessage(event)
      }
      const inside = this.frame.contentDocument
      inside.open()
      inside.write(
        "<body><script>postMessage = data => frameElement.answer(data)</" + "script>" +
        `<script src="${url}"></` + "script>"
      )
      inside.close()
      this.frame.addEventListener("load", () => {
        for (const data of this.waiting.splice(0)) this.send(data)
        this.ready = true
      })
    }

    send(data) {
      const inside = this.frame.contentWindow
      inside.dispatchEvent(new inside.MessageEvent("message", { data }))
    }

    postMessage(data) {
      if (this.ready) this.send(data)
      else this.waiting.push(data)
    }

    terminate() {
      this.frame.remove()
    }
  }
  window.IFrameWorker = window.Worker
}
