package dockertest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The Engine keeps 256 events and buffers 1024 for a slow reader; it drops more than that
// silently (daemon/events/events.go).
const (
	kept     = 256
	buffered = 1024
)

// hub is the Engine's stream of events.
type hub struct {
	events    []message // the newest 256
	listeners map[chan message]bool
	stamp     int64
	dropping  bool // events are lost
}

type message struct {
	Type     string
	Action   string
	Actor    actor
	Time     int64 `json:"time"`
	TimeNano int64 `json:"timeNano"`
}

type actor struct {
	ID         string
	Attributes map[string]string
}

// emit sends an event to all listeners. The lock is held.
func (h *hub) emit(b *container, action string, attributes ...string) {
	h.stamp = max(h.stamp+1, time.Now().UnixNano())
	m := message{
		Type: "container", Action: action, Time: h.stamp / 1e9, TimeNano: h.stamp,
		Actor: actor{string(b.id), map[string]string{"name": b.spec.Name, "image": b.spec.Image}},
	}
	for i := 0; i+1 < len(attributes); i += 2 {
		m.Actor.Attributes[attributes[i]] = attributes[i+1]
	}
	if h.dropping {
		return
	}
	h.events = append(h.events, m)
	if len(h.events) > kept {
		h.events = h.events[1:]
	}
	for l := range h.listeners {
		select {
		case l <- m:
		default:
		}
	}
}

func (a api) serveEvents(w http.ResponseWriter, r *http.Request) {
	var want struct{ Type, Event map[string]bool }
	if f := r.URL.Query().Get("filters"); f != "" {
		if err := json.Unmarshal([]byte(f), &want); err != nil {
			fail(w, no(http.StatusBadRequest, "invalid filter: %v", err))
			return
		}
	}
	fits := func(m message) bool {
		action, _, _ := strings.Cut(m.Action, ":")
		return (len(want.Type) == 0 || want.Type[m.Type]) &&
			(len(want.Event) == 0 || want.Event[action] || want.Event[m.Action])
	}
	listener := make(chan message, buffered)
	a.mu.Lock()
	down := a.down
	var backlog []message
	if since := nanoseconds(r.URL.Query().Get("since")); since > 0 {
		for _, m := range a.events {
			if m.TimeNano >= since {
				backlog = append(backlog, m)
			}
		}
	}
	a.listeners[listener] = true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.listeners, listener)
		a.mu.Unlock()
	}()

	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	flush := func() bool { return http.NewResponseController(w).Flush() == nil }
	for _, m := range backlog {
		if fits(m) && out.Encode(m) != nil {
			return
		}
	}
	if !flush() {
		return
	}
	for {
		select {
		case m, ok := <-listener:
			if !ok {
				return
			}
			if fits(m) && (out.Encode(m) != nil || !flush()) {
				return
			}
		case <-r.Context().Done():
			return
		case <-down:
			return
		}
	}
}

// nanoseconds reads "seconds.nanoseconds".
func nanoseconds(s string) int64 {
	sec, nano, _ := strings.Cut(s, ".")
	a, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return 0
	}
	b, _ := strconv.ParseInt((nano + "000000000")[:9], 10, 64)
	return a*1e9 + b
}
