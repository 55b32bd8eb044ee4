package config

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
)

const nameWords = "letters, digits, _ . -, up to 128, the first a letter or digit"

func checkName(s string) error {
	if s == "" {
		return errors.New("is empty")
	}
	if !knowledge.ValidName(s) {
		return errors.New("is not a name")
	}
	return nil
}

func optional(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\uFFFD' })
}

func checkPath(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case hasControl(s):
		return errors.New("holds control characters")
	case !filepath.IsAbs(s):
		return errors.New("is not an absolute path")
	}
	return nil
}

// maxSocketPath is sun_path of unix(7), 108 bytes with its closing NUL.
const maxSocketPath = 107

const maxOwnSocket = maxSocketPath - len(".new")

// checkOwnSocket leaves space for the suffix under which the daemon creates its own.
func checkOwnSocket(s string) error {
	if len(s) > maxOwnSocket {
		return errors.New("is longer than the 103 bytes that fit")
	}
	return checkPath(s)
}

func checkSocketPath(s string) error {
	if len(s) > maxSocketPath {
		return errors.New("is longer than the 107 bytes that the kernel takes")
	}
	return checkPath(s)
}

// checkAddress accepts host:port; port 0 takes any free one.
func checkAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || hasControl(s) {
		return errors.New("is not host:port")
	}
	if err := checkPort(port); err != nil {
		return err
	}
	if host != "" && !isHost(host) {
		return errors.New("has no valid host")
	}
	return nil
}

func checkPort(s string) error {
	if n, err := strconv.Atoi(s); !isDigits(s) || err != nil || n > 65535 {
		return errors.New("has no port from 0 to 65535")
	}
	return nil
}

// isHost accepts an IP address or a host name.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return len(s) <= 253 && knowledge.ValidName(strings.ReplaceAll(s, ".", "-")) && !strings.Contains(s, "_")
}

func checkHost(s string) error {
	if !isHost(s) {
		return errors.New("is not a host name or address without a port")
	}
	return nil
}

// isLoopback reports whether an address that checkAddress accepted cannot be
// reached from another host. A name other than localhost could be anything.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// checkOnlyLabel accepts "key" and "key=value"; the value may be anything printable.
func checkOnlyLabel(s string) error {
	key, _, _ := strings.Cut(s, "=")
	switch {
	case len(s) > maxLabel:
		return errors.New("is too long")
	case !knowledge.ValidName(key):
		return errors.New("does not begin with the name of a label")
	case hasControl(s):
		return errors.New("holds control characters")
	}
	return nil
}

// labelDemo is of the containers of a demonstration, which has a daemon of its own.
const labelDemo = "effiscale.demo"

// Sees reports whether a container with these labels is of this daemon's. Those of a
// demonstration are of the daemon that names their label.
func (d *Docker) Sees(labels map[string]string) bool {
	key, want, exact := strings.Cut(d.OnlyLabel, "=")
	if _, demo := labels[labelDemo]; demo && key != labelDemo {
		return false
	}
	if d.OnlyLabel == "" {
		return true
	}
	value, ok := labels[key]
	return ok && (!exact || value == want)
}

func checkEngine(s string) error {
	if path, ok := strings.CutPrefix(s, "unix://"); ok {
		return checkSocketPath(path)
	}
	if address, ok := strings.CutPrefix(s, "tcp://"); ok {
		return checkAddress(address)
	}
	if s == "" {
		return errors.New("is empty")
	}
	return errors.New("begins with neither unix:// nor tcp://")
}
