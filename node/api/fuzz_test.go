package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
	"pgregory.net/rapid"
)

// FuzzCheckRef: whatever passes is a name or an id, and safe in a path and a log.
func FuzzCheckRef(f *testing.F) {
	for _, s := range []string{"web", someID, someID[:12], "..", "", "a", "a/b", "１２", "web\x00",
		strings.Repeat("a", 200)} {
		f.Add(s)
	}
	safe := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]+$`)
	f.Fuzz(func(t *testing.T, s string) {
		err := CheckRef(s)
		if (err == nil) != (safe.MatchString(s) && len(s) <= 128) {
			t.Errorf("%q: %v", s, err)
		}
		if err == nil {
			return
		}
		if KindOf(err) != KindBadRequest || len(err.Error()) > 512 || !utf8.ValidString(err.Error()) ||
			strings.ContainsAny(err.Error(), "\x00\x1b\n\r") {
			t.Errorf("%q", err)
		}
	})
}

// fuzzService is one service behind all its checks but the network's.
type fuzzService struct {
	d *fakeDaemon
	h http.Handler
}

func newFuzzService(f *testing.F, service string) *fuzzService {
	f.Helper()
	l := newLimiter()
	l.global.SetLimit(rate.Inf)
	l.clients[clientKey("192.0.2.1:1")] = rate.NewLimiter(rate.Inf, 1) // httptest's client
	d := &fakeDaemon{}
	s := &Server{b: d.backend(), o: Options{Log: zerolog.Nop(), Version: "test"}, limits: defaultLimits(),
		metrics: NewMetrics("test"),
		limiter: l, crossOrigin: http.NewCrossOriginProtection(), names: []string{"example.com"}}
	h, err := s.serviceHandler(service)
	if err != nil {
		f.Fatal(err)
	}
	return &fuzzService{d: d, h: h}
}

// send sends one request, and checks what must hold for every answer.
func (f *fuzzService) send(t *testing.T, method, target string, body []byte) {
	t.Helper()
	f.d.calls, f.d.scales = nil, nil
	var err error
	r := httptest.NewRequest(method, "/", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if r.URL, err = url.ParseRequestURI(target); err != nil {
		return // net/http refuses it
	}
	w := httptest.NewRecorder()
	f.h.ServeHTTP(w, r)
	if w.Code == http.StatusInternalServerError || w.Code < 200 {
		t.Errorf("%s %q %q: status %d: %s", method, target, body, w.Code, w.Body)
	}
	if w.Code >= 400 {
		var p map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p["detail"] == "" || len(p["detail"]) > maxDetail+8 {
			t.Errorf("%s %q: %d is not a problem: %s", method, target, w.Code, w.Body)
		}
	}
}

func FuzzVerticalBody(f *testing.F) {
	for _, s := range []string{`{"container_id":"web","direction":"up"}`,
		`{"container_id":"web","direction":"down","resources":{"cpu":1.5,"memory":268435456}}`,
		`{"container_id":"web","direction":"up","resources":{"cpu":1,"CPU":-1e300}}`, `{`, `null`, `[]`,
		`{"container_id":"../x","direction":"up"}`, `{"container_id":"web","direction":"up","resources":{"cpu":1e999}}`} {
		f.Add([]byte(s))
	}
	service := newFuzzService(f, Execution)
	f.Fuzz(func(t *testing.T, body []byte) {
		service.send(t, "POST", "/scale/vertical", body)
		for _, r := range service.d.scales {
			if CheckRef(r.Container) != nil || r.CPU < 0 || r.CPU > 4096 || r.Memory < 0 || r.Memory > 1<<50 ||
				r.Direction != "up" && r.Direction != "down" {
				t.Errorf("%q reached the daemon as %+v", body, r)
			}
		}
	})
}

func FuzzDecisionBody(f *testing.F) {
	for _, s := range []string{`{"cpu_usage":0.82,"memory_usage":0.4}`, `{"container_id":"web"}`, `{"cpu_usage":null}`,
		`{"cpu_usage":-0}`, `{"cpu_usage":1,"memory_usage":2}`} {
		f.Add([]byte(s))
	}
	service := newFuzzService(f, Controller)
	f.Fuzz(func(t *testing.T, body []byte) { service.send(t, "POST", "/decision", body) })
}

// FuzzPath: a strange path never reaches the daemon with a strange reference.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/metrics/web", "/metrics/%2e%2e", "/metrics/../x", "//", "/metrics/a%00",
		"/predictions/web?prediction_window=NaN", "/metrics/web/history?time_window=%31"} {
		f.Add(s)
	}
	service := newFuzzService(f, Monitor)
	f.Fuzz(func(t *testing.T, target string) {
		service.send(t, "GET", target, nil)
		for _, call := range service.d.asked() {
			if _, ref, _ := strings.Cut(call, " "); strings.HasPrefix(call, "metric ") && CheckRef(ref) != nil {
				t.Errorf("%q reached the daemon as %q", target, call)
			}
		}
	})
}

func FuzzTokens(f *testing.F) {
	f.Add("read:" + strings.Repeat("ab", 32) + ":me")
	f.Add("# c\nadmin:zz")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseTokens("file", text)
		if (err == nil) != (len(all) > 0) || len(all) > maxTokens {
			t.Errorf("%d tokens, %v", len(all), err)
		}
		for _, tok := range all {
			if tok.role == RoleNone {
				t.Errorf("a token without a role from %q", text)
			}
		}
	})
}

// TestRuleOfThumbIsMonotone: more load never asks for less.
func TestRuleOfThumbIsMonotone(t *testing.T) {
	order := map[string]int{"scale_in": 0, "scale_down": 1, "no_action": 2, "scale_up": 3, "scale_out": 4}
	rapid.Check(t, func(t *rapid.T) {
		cpu, memory := rapid.Float64Range(0, 1).Draw(t, "cpu"), rapid.Float64Range(0, 1).Draw(t, "memory")
		more := rapid.Float64Range(cpu, 1).Draw(t, "more")
		if order[ruleOfThumb(more, memory)] < order[ruleOfThumb(cpu, memory)] {
			t.Fatalf("cpu %v to %v at memory %v", cpu, more, memory)
		}
	})
}
