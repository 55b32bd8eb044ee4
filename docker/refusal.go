package docker

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
)

// endpoint is what a kind of call needs to be allowed by an authorization plugin or a proxy
// before the Engine's socket, and what cannot be done without it.
type endpoint struct{ request, without string }

// endpoints are by the name of the operation.
var endpoints = map[string]endpoint{
	opPing.name: {"GET /_ping", "the API version comes from GET /version"},
	opInfo.name: {"GET /info", "the CPUs and the memory of the host are those that this process sees"},
	opList.name: {"GET /containers/json", "no container can be seen"},
	opInspect.name: {"GET /containers/ID/json", "original limits cannot be recorded, and containers " +
		"without a record of them are not changed"},
	opUpdateCPU.name:    {updateRequest, nothingChanged},
	opUpdateMemory.name: {updateRequest, nothingChanged},
	opUpdateShares.name: {updateRequest, nothingChanged},
	opStats.name:        {"GET /containers/ID/stats", "containers without visible kernel files are not measured"},
	opEvents.name:       {"GET /events", "starts are seen at the next listing (monitor.list_every), ends within seconds"},
}

// withoutGroups is why updates are not sent to an Engine with the cgroup driver none.
const withoutGroups = "the Engine runs without control groups (rootless, cgroup driver none) and ignores limits"

const (
	updateRequest  = "POST /containers/ID/update"
	nothingChanged = "containers are observed, and no limit is changed"
)

// access is what the Engine, or what stands before its socket, refuses.
type access struct {
	log zerolog.Logger

	mu      sync.Mutex        // guards what follows
	refused map[string]string // by request: why
	checked bool              // whether updates are allowed is known
}

// refusedStatus reports whether a status means that the endpoint is not allowed or does not
// exist. A 404 with the Engine's JSON is about an object, and so is any refusal of an operation
// that changes others than limits.
func refusedStatus(op string, status int, json bool, msg string) bool {
	if _, known := endpoints[op]; !known && json {
		return false
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented,
		http.StatusProxyAuthRequired:
		return true
	case http.StatusNotFound:
		msg = strings.ToLower(msg)
		return !json || strings.Contains(msg, "page not found") ||
			!strings.Contains(msg, "no such") && !strings.Contains(msg, "not found")
	}
	return false
}

// denied is the error of a request inside another call, when it was refused; nil: it was not.
func (s *session) denied(ctx context.Context, op operation, err error) *Error {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if err == nil || !ok {
		return nil
	}
	if e := s.c.classify(op, "", x, err); e.Kind == KindDenied {
		return e
	}
	return nil
}

// note records whether an operation was refused, and logs a change.
func (a *access) note(op string, e *Error) {
	p, ok := endpoints[op]
	if !ok || e != nil && e.Kind != KindDenied {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case p.request == updateRequest:
		a.checked = a.checked && e == nil // watch checks whether it refuses this container's or all
	case e == nil:
		a.set(p, "")
	case a.refused[p.request] == "":
		a.set(p, e.Message)
	}
}

// set keeps why a request is refused, "": it is allowed, and logs a change. a.mu is held.
func (a *access) set(p endpoint, why string) {
	was := a.refused[p.request] != ""
	if why == "" {
		delete(a.refused, p.request)
	} else {
		a.refused[p.request] = why
	}
	switch {
	case was && why == "":
		a.log.Info().Str("request", p.request).Msg("the Docker Engine allows the request again")
	case !was && why != "":
		a.log.Warn().Str("request", p.request).Str("error", why).Str("without", p.without).
			Msg("the Docker Engine refuses a request")
	}
}

// Refusals are what the Engine, or what stands before its socket, does not allow: each with
// the cause, the effect and what to allow.
func (c *Client) Refusals() (all []string) {
	a := &c.access
	a.mu.Lock()
	defer a.mu.Unlock()
	for request, why := range a.refused {
		all = append(all, fmt.Sprintf("%s: %s; %s", request, why, withoutOf(request)))
	}
	slices.Sort(all)
	return all
}

func withoutOf(request string) string {
	for _, p := range endpoints {
		if p.request == request {
			return p.without
		}
	}
	return ""
}

// UpdateRefused is why no limit can be changed by this Engine; "": it can, as far as is known.
func (c *Client) UpdateRefused() string {
	c.access.mu.Lock()
	defer c.access.mu.Unlock()
	return c.access.refused[updateRequest]
}

// noContainer is an id that no container has.
var noContainer = strings.Repeat("0", 64)

const (
	// checkWithin bounds the check whether updates are allowed; checkAgain is how often it is
	// repeated while they are not.
	checkWithin = time.Second
	checkAgain  = 10 * time.Second
)

// watch checks whether updates are allowed: once for each connection, and again while they are
// refused.
func (a *access) watch(ctx context.Context, current func() *session) {
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		s := current()
		a.mu.Lock()
		checked, refused := a.checked, a.refused[updateRequest] != ""
		a.mu.Unlock()
		if s.api == nil || checked && !refused || time.Since(last) < checkAgain && checked {
			continue
		}
		last = time.Now()
		a.checkUpdates(ctx, s)
	}
}

// checkUpdates checks whether updates are allowed: it sends one for a container that does not
// exist, which changes nothing.
func (a *access) checkUpdates(ctx context.Context, s *session) {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	why := ""
	s.mu.Lock()
	driver := s.host.CgroupDriver
	s.mu.Unlock()
	if driver == "none" {
		why = withoutGroups
	} else {
		cctx, x := withExchange(ctx, otherBound)
		_, err := s.api.ContainerUpdate(cctx, noContainer, container.UpdateConfig{})
		status := int(x.status.Load())
		switch {
		case err != nil && refusedStatus(opUpdateCPU.name, status, x.json.Load(), err.Error()):
			why = s.deniedText(opUpdateCPU.name, status, clean(err.Error()))
		case status == 0:
			return // no answer: asked again
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.checked = true
	a.set(endpoints[opUpdateCPU.name], why)
}

// unsupported is between the name of a foreign engine and the request that it does not have.
const unsupported = " does not support "

// Remedy is what to do about one of Refusals.
func Remedy(refusal string) string {
	request, why, _ := strings.Cut(refusal, ": ")
	switch {
	case strings.Contains(why, unsupported+request+" (HTTP "):
		return "nothing can be allowed: this engine does not have the call; run what needs it with the Docker Engine"
	case strings.HasPrefix(why, withoutGroups):
		return "run the Engine as root, or rootless with systemd on cgroup v2, so that it applies limits"
	}
	return "allow the request; `effiscale help failures` lists what is needed"
}

// deniedText is what was refused, and what to allow.
func (s *session) deniedText(op string, status int, message string) string {
	request := op
	if p, ok := endpoints[op]; ok {
		request = p.request
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine != "" { // it is no Docker Engine, and does not have it
		return fmt.Sprintf("%s%s%s (HTTP %d): %s", s.engine, unsupported, request, status, message)
	}
	return fmt.Sprintf("refused with HTTP %d by %s, its authorization plugin or a proxy: %s; allow %s",
		status, s.c.host, message, request)
}

// ping asks for the API version. Where a ping is refused, GET /version has it.
func (s *session) ping(ctx context.Context) (types.Ping, error) {
	ping, err := s.api.Ping(ctx)
	status := 0
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		status = int(x.pinged.Load())
	}
	if err == nil || !refusedStatus(opPing.name, status, false, "") {
		if err == nil {
			s.c.access.note(opPing.name, nil)
		}
		return ping, err
	}
	v := s.askVersion(ctx)
	if v.APIVersion == "" && status == http.StatusNotFound {
		return ping, err // it hides everything, or is something else
	}
	s.c.access.note(opPing.name, &Error{Kind: KindDenied, Message: s.deniedText(opPing.name, status, clean(err.Error()))})
	ping.APIVersion = cmp.Or(v.APIVersion, MinAPI)
	return ping, nil
}

// versionAnswer is the part of GET /version that is used.
type versionAnswer struct {
	APIVersion string `json:"ApiVersion"`
	Version    string
	Components []struct{ Name, Version string }
}

// askVersion asks without a version in the path, as a proxy allows it by default. The zero value:
// there is no answer of use.
func (s *session) askVersion(ctx context.Context) (v versionAnswer) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.scheme()+"://docker/version", nil)
	if err != nil {
		return v
	}
	req.Header.Set("User-Agent", "effiscale")
	resp, err := s.c.http.RoundTrip(req)
	if err != nil {
		return v
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, otherBound)).Decode(&v) != nil {
		return versionAnswer{}
	}
	return v
}

// foreign is the name and version of an engine that is not Docker's; "": it is Docker's.
func (v versionAnswer) foreign() string {
	for _, part := range v.Components {
		if strings.HasPrefix(part.Name, "Podman") {
			return clean(strings.TrimSpace(part.Name + " " + part.Version))
		}
	}
	return ""
}

// localHost describes the host where GET /info is refused: as this process sees it.
func localHost() knowledge.Host {
	h := knowledge.Host{CPUs: runtime.NumCPU()}
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return h
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if w := strings.Fields(lines.Text()); len(w) == 3 && w[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(w[1], 10, 64)
			h.Memory = min(knowledge.Bytes(max(kib, 0))*knowledge.KiB, knowledge.MaxBytes)
		}
	}
	return h
}
