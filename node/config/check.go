package config

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
)

// crossCheck compares values with each other. It runs when each of them is valid.
func (l *loader) crossCheck() {
	c := &l.config
	l.checkServing()
	l.checkCluster()
	l.ordered("monitor.hot_every", "monitor.every", c.Monitor.HotEvery <= c.Monitor.Every)
	l.ordered("monitor.every", "monitor.idle_every", c.Monitor.Every <= c.Monitor.IdleEvery)
	l.checkPolicy("policy", c.Policy)
	for _, class := range knowledge.Classes() {
		p := c.Policy
		if c.Classes[class].apply(&p) {
			p.Class = class
			l.checkPolicy("class."+class.String(), p)
		}
	}
	for _, name := range sortedServices(c.Services) {
		p := c.Policy
		c.Services[name].class(&p)
		c.Classes[p.Class].apply(&p)
		c.Services[name].apply(&p)
		l.checkPolicy("service."+string(name), p)
	}
}

func sortedServices(services map[knowledge.ServiceKey]Patch) []knowledge.ServiceKey {
	var names []knowledge.ServiceKey
	for name := range services {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

const protectionHint = "is reachable from other hosts, which requires TLS and tokens: " +
	"set api.tls_cert, api.tls_key and api.tokens_file, or listen on 127.0.0.1\n" +
	"        a certificate: openssl req -x509 -newkey ed25519 -nodes -days 365 -subj /CN=NAME " +
	"-addext subjectAltName=DNS:NAME -keyout key.pem -out cert.pem\n" +
	`        a token:       T=$(openssl rand -hex 32); ` +
	`echo "operate:$(printf %s "$T" | sha256sum | cut -d' ' -f1):me" > tokens; chmod 600 tokens; echo "$T"`

// checkServing refuses services that are reachable from other hosts without TLS and
// tokens: a client of the execution service changes containers.
func (l *loader) checkServing() {
	a := &l.config.API
	l.paired("api.tls_cert", a.TLSCert, "api.tls_key", a.TLSKey)
	services := []struct{ key, address string }{
		{"api.monitor", a.Monitor}, {"api.controller", a.Controller}, {"api.execution", a.Execution},
	}
	for i, s := range services {
		if s.address != "" && !isLoopback(s.address) && (a.TLSCert == "" || a.TokensFile == "") {
			l.fail(s.key, quote(s.address), protectionHint)
		}
		for _, other := range services[:i] {
			if _, port, _ := net.SplitHostPort(s.address); s.address == other.address && port != "" && port != "0" {
				l.fail(s.key, quote(s.address), "is the address of "+other.key+" too")
			}
		}
	}
}

func (l *loader) paired(aKey, a, bKey, b string) {
	switch {
	case a != "" && b == "":
		l.fail(aKey, quote(a), "needs "+bKey+" beside it")
	case a == "" && b != "":
		l.fail(bKey, quote(b), "needs "+aKey+" beside it")
	}
}

func (l *loader) ordered(least, most string, ok bool) {
	if !ok {
		l.failPair([]string{least}, []string{most})
	}
}

// checkPolicy compares the bounds of one layer with each other and with the caps.
func (l *loader) checkPolicy(layer string, p knowledge.Policy) {
	keys := func(name string) []string { return l.inherited(layer, name, p.Class) }
	limits := &l.config.Limits
	if p.CPU.Max > 0 && p.CPU.Min > p.CPU.Max {
		l.failPair(keys("cpu_min"), keys("cpu_max"))
	}
	if p.Memory.Max > 0 && p.Memory.Min > p.Memory.Max {
		l.failPair(keys("memory_min"), keys("memory_max"))
	}
	if limits.ContainerCPUMax > 0 && p.CPU.Min > limits.ContainerCPUMax {
		l.failPair(keys("cpu_min"), []string{"limits.container_cpu_max"})
	}
	if limits.ContainerMemoryMax > 0 && p.Memory.Min > limits.ContainerMemoryMax {
		l.failPair(keys("memory_min"), []string{"limits.container_memory_max"})
	}
}

// inherited lists where a policy key of one layer may have been set, the
// strongest first.
func (l *loader) inherited(layer, name string, class knowledge.Class) []string {
	keys := []string{"policy." + name}
	if layer != "policy" {
		keys = append([]string{"class." + class.String() + "." + name}, keys...)
	}
	if strings.HasPrefix(layer, "service.") {
		keys = append([]string{layer + "." + name}, keys...)
	}
	return keys
}

// failPair reports a lower bound above its upper one, at the one that was set last.
func (l *loader) failPair(leastKeys, mostKeys []string) {
	leastText, leastOrigin, leastKey := l.valueOf(leastKeys)
	mostText, mostOrigin, mostKey := l.valueOf(mostKeys)
	key, text, origin := mostKey, mostText, mostOrigin
	message := fmt.Sprintf("is below %s = %s (%s)", leastKey, leastText, leastOrigin)
	if mostOrigin.Source < leastOrigin.Source ||
		mostOrigin.Source == leastOrigin.Source && mostOrigin.Line < leastOrigin.Line {
		key, text, origin = leastKey, leastText, leastOrigin
		message = fmt.Sprintf("is above %s = %s (%s)", mostKey, mostText, mostOrigin)
	}
	for _, p := range l.problems {
		if p.Key == key && p.Message == message {
			return // reported for the layer below
		}
	}
	l.failAt(key, text, message, origin)
}

// valueOf finds the text and the origin of the first of the keys that is set;
// the last one always is.
func (l *loader) valueOf(keys []string) (text string, origin Origin, found string) {
	for _, key := range keys {
		cut := strings.LastIndexByte(key, '.')
		for _, s := range l.config.patchOf(key[:cut]) {
			if s.Key == key[cut+1:] {
				return s.Value, s.Origin, key
			}
		}
		for _, b := range l.bindings {
			if b.path() == key {
				return b.text(), l.config.Origins[key], key
			}
		}
	}
	return "", Origin{}, keys[len(keys)-1]
}

// patchOf is the patch of a section "class.NAME" or "service.NAME".
func (c *Config) patchOf(section string) Patch {
	if name, ok := strings.CutPrefix(section, "class."); ok {
		class, _ := knowledge.ParseClass(name)
		return c.Classes[class]
	}
	if name, ok := strings.CutPrefix(section, "service."); ok {
		return c.Services[knowledge.ServiceKey(name)]
	}
	return nil
}

func (l *loader) fail(key, value, message string) {
	l.failAt(key, value, message, l.config.Origins[key])
}

func (l *loader) failAt(key, value, message string, origin Origin) {
	e := l.places[strings.ReplaceAll(key, ".", "\x00")]
	if service, ok := strings.CutPrefix(key, "service."); ok { // its name may hold dots
		cut := strings.LastIndexByte(service, '.')
		e = l.places["service\x00"+service[:cut]+"\x00"+service[cut+1:]]
	}
	l.report(Problem{Origin: origin, Key: key, Value: value, Message: message}, e.at)
}
