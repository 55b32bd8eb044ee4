package process

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/docker/cgroup"
)

// apiVersion is the oldest version that the client speaks.
const apiVersion = "1.41"

// maxRequest bounds a request's body; an image is read and dropped.
const maxRequest = 1 << 20

// event is a message of the event stream.
type event struct {
	Type, Action string
	Actor        actor
	TimeNano     int64 `json:"timeNano"`
}

type actor struct {
	ID         string
	Attributes map[string]string
}

// emit sends an event to all streams; mu is held. A stream that does not keep up loses it,
// as with a real Engine.
func (e *Engine) emit(action string, c *container) {
	ev := event{Type: "container", Action: action, Actor: actor{c.id, map[string]string{"name": c.name}},
		TimeNano: time.Now().UnixNano()}
	for w := range e.watchers {
		select {
		case w <- ev:
		default:
		}
	}
}

// routes is the API, under any version.
func (e *Engine) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /_ping":                   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "OK") },
		"GET /info":                    e.info,
		"GET /events":                  e.events,
		"GET /containers/json":         e.list,
		"POST /containers/create":      e.createRequest,
		"POST /images/create":          e.importImage,
		"DELETE /images/{name}":        func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, []string{}) },
		"GET /containers/{id}/json":    e.of(e.inspectRequest),
		"POST /containers/{id}/start":  e.of(e.startRequest),
		"POST /containers/{id}/update": e.of(e.updateRequest),
		"DELETE /containers/{id}":      e.of(e.removeRequest),
	} {
		mux.HandleFunc(pattern, h)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", apiVersion)
		w.Header().Set("Ostype", "linux")
		if rest, ok := strings.CutPrefix(r.URL.Path, "/v"); ok {
			_, path, _ := strings.Cut(rest, "/")
			r.URL.Path = "/" + path
		}
		mux.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone
}

func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	answer(w, status, map[string]string{"message": fmt.Sprintf(format, args...)})
}

// of finds the container that a path names.
func (e *Engine) of(h func(http.ResponseWriter, *http.Request, *container)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		e.mu.Lock()
		c := e.containers[id]
		e.mu.Unlock()
		if c == nil {
			refuse(w, http.StatusNotFound, "No such container: %s", id)
			return
		}
		h(w, r, c)
	}
}

func (e *Engine) info(w http.ResponseWriter, _ *http.Request) {
	var s unix.Sysinfo_t
	if err := unix.Sysinfo(&s); err != nil {
		refuse(w, http.StatusInternalServerError, "cannot read the host's memory: %v", err)
		return
	}
	version := "1"
	if e.host.Version() == cgroup.V2 {
		version = "2"
	}
	name, _ := os.Hostname() // for people only
	answer(w, http.StatusOK, map[string]any{
		"Name": name, "NCPU": runtime.NumCPU(), "MemTotal": uint64(s.Totalram) * uint64(s.Unit),
		"ServerVersion": "none (processes)",
		"CgroupVersion": version, "CgroupDriver": cgroup.DriverCgroupfs, "SwapLimit": true, "OSType": "linux",
	})
}

// events streams what happens until the client goes away.
func (e *Engine) events(w http.ResponseWriter, r *http.Request) {
	watcher := make(chan event, 64)
	e.mu.Lock()
	e.watchers[watcher] = true
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.watchers, watcher)
	}()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	out, enc := http.NewResponseController(w), json.NewEncoder(w)
	for out.Flush() == nil {
		select {
		case <-r.Context().Done():
			return
		case ev := <-watcher:
			if enc.Encode(ev) != nil {
				return
			}
		}
	}
}

func (e *Engine) list(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := []map[string]any{}
	for _, id := range slices.Sorted(maps.Keys(e.containers)) {
		c := e.containers[id]
		out = append(out, map[string]any{
			"Id": c.id, "Names": []string{"/" + c.name}, "Image": c.image, "Command": strings.Join(c.args, " "),
			"Created": c.created.Unix(), "Labels": c.labels, "State": c.state(),
		})
	}
	answer(w, http.StatusOK, out)
}

// state is the Engine's word; mu is held.
func (c *container) state() string {
	switch {
	case c.group != nil:
		return "running"
	case c.started.IsZero():
		return "created"
	}
	return "exited"
}

func (e *Engine) inspectRequest(w http.ResponseWriter, _ *http.Request, c *container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	answer(w, http.StatusOK, e.inspect(c))
}

// inspect is what the Engine tells of one container; mu is held.
func (e *Engine) inspect(c *container) any {
	pid := 0
	if c.process != nil {
		pid = c.process.Pid
	}
	ports := map[string]any{}
	if c.listener != nil {
		host, port, _ := strings.Cut(c.listener.Addr().String(), ":")
		ports[c.port] = []map[string]string{{"HostIp": host, "HostPort": port}}
	}
	return map[string]any{
		"Id": c.id, "Name": "/" + c.name, "Created": c.created.UTC().Format(time.RFC3339Nano), "Path": e.o.Program,
		"Args": c.args,
		"State": map[string]any{
			"Status": c.state(), "Running": c.group != nil, "Pid": pid, "ExitCode": c.exit,
			"StartedAt": c.started.UTC().Format(time.RFC3339Nano),
		},
		"HostConfig": struct {
			resources
			CgroupParent, Runtime string
		}{c.limits, "/" + e.o.Parent, "runc"},
		"Config":          map[string]any{"Image": c.image, "Labels": c.labels},
		"NetworkSettings": map[string]any{"Ports": ports, "Networks": map[string]any{}},
	}
}

func (e *Engine) createRequest(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Image      string
		Cmd, Env   []string
		Labels     map[string]string
		HostConfig struct {
			resources
			PortBindings map[string]any
		}
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(&q); err != nil || len(q.Cmd) == 0 {
		refuse(w, http.StatusBadRequest, "cannot read the container: %v", err)
		return
	}
	c := &container{name: r.URL.Query().Get("name"), image: q.Image, args: q.Cmd[1:], env: q.Env, labels: q.Labels,
		limits: q.HostConfig.resources}
	for port := range q.HostConfig.PortBindings {
		c.port = port
	}
	if err := e.create(c); err != nil {
		refuse(w, http.StatusInternalServerError, "%v", err)
		return
	}
	answer(w, http.StatusCreated, map[string]any{"Id": c.id, "Warnings": []string{}})
}

func (e *Engine) importImage(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		refuse(w, http.StatusBadRequest, "cannot read the image: %v", err)
		return
	}
	answer(w, http.StatusOK, map[string]string{"status": "not needed"})
}

func (e *Engine) startRequest(w http.ResponseWriter, _ *http.Request, c *container) {
	if err := e.start(c); err != nil {
		refuse(w, http.StatusInternalServerError, "%v", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (e *Engine) updateRequest(w http.ResponseWriter, r *http.Request, c *container) {
	var q resources
	if err := json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(&q); err != nil {
		refuse(w, http.StatusBadRequest, "cannot read the limits: %v", err)
		return
	}
	if err := e.update(c, q); err != nil {
		refuse(w, http.StatusInternalServerError, "Cannot update container %s: %v", c.id, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"Warnings": []string{}})
}

func (e *Engine) removeRequest(w http.ResponseWriter, _ *http.Request, c *container) {
	if err := e.remove(c); err != nil {
		refuse(w, http.StatusInternalServerError, "%v", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
