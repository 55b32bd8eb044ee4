package api

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"time"
)

// secretFiles are what the options' files hold.
type secretFiles struct {
	tokens []token
	tls    *tls.Config
}

// readSecrets reads tokens, certificate and key, and returns all faults.
func readSecrets(o Options) (s secretFiles, err error) {
	var errs []error
	if o.TokensFile != "" {
		s.tokens, err = readTokens(o.TokensFile)
		errs = append(errs, err)
	}
	switch {
	case (o.TLSCert == "") != (o.TLSKey == ""):
		errs = append(errs, errors.New("cannot use TLS: api.tls_cert and api.tls_key belong together, one of them is empty"))
	case o.TLSCert != "":
		cert, err := readCertificate(o.TLSCert, o.TLSKey)
		errs = append(errs, err)
		s.tls = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert},
			NextProtos: []string{"http/1.1"}}
	}
	return s, errors.Join(errs...)
}

func readCertificate(cert, key string) (c tls.Certificate, err error) {
	for _, path := range []string{cert, key} {
		if err := regular(path); err != nil {
			return c, fmt.Errorf("cannot read api.tls_cert %s and api.tls_key %s: %w", cert, key, err)
		}
	}
	if c, err = tls.LoadX509KeyPair(cert, key); err != nil {
		return c, fmt.Errorf("cannot read api.tls_cert %s and api.tls_key %s: %w", cert, key, err)
	}
	return c, nil
}

// regular refuses what is no file: opening a pipe would block.
func regular(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	return err
}

// certificateEnds is how long before its end a certificate is warned about.
const certificateEnds = 14 * 24 * time.Hour

// CheckSecrets reads the files of tokens, certificate and key as New does. Warnings are about
// files that are used all the same: the daemon does not stop scaling for a certificate.
func CheckSecrets(o Options, now time.Time) (warnings []string, err error) {
	s, err := readSecrets(o)
	if err != nil || s.tls == nil {
		return nil, err
	}
	leaf, day := s.tls.Certificates[0].Leaf, time.DateOnly
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	switch end := leaf.NotAfter.UTC().Format(day); {
	case now.After(leaf.NotAfter):
		warn("api.tls_cert %s expired on %s, so clients refuse it; allowed: a certificate that is valid today",
			o.TLSCert, end)
	case now.Before(leaf.NotBefore):
		warn("api.tls_cert %s is valid from %s on, so clients refuse it; allowed: a certificate that is valid today",
			o.TLSCert, leaf.NotBefore.UTC().Format(day))
	case leaf.NotAfter.Sub(now) < certificateEnds:
		warn("api.tls_cert %s expires on %s; replace it and restart the daemon", o.TLSCert, end)
	}
	if info, err := os.Stat(o.TLSKey); err == nil && info.Mode().Perm()&0o027 != 0 {
		warn("api.tls_key %s can be used by others (mode %04o); allowed: 0600 or 0640 (chmod 600 %s)",
			o.TLSKey, info.Mode().Perm(), o.TLSKey)
	}
	return warnings, nil
}
