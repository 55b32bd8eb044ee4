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

// Certificate is the certificate of the three services; the zero value: there is none.
type Certificate struct {
	Path        string
	From, Until time.Time
}

// ReadCertificate reads the certificate that New uses.
func ReadCertificate(o Options) (Certificate, error) {
	s, err := readSecrets(o)
	if err != nil || s.tls == nil {
		return Certificate{}, err
	}
	leaf := s.tls.Certificates[0].Leaf
	return Certificate{Path: o.TLSCert, From: leaf.NotBefore, Until: leaf.NotAfter}, nil
}

// Problem is what is wrong with the certificate now, or soon; "": nothing. With an invalid one
// clients refuse the services already.
func (c Certificate) Problem(now time.Time) (text string, invalid bool) {
	from, until := c.From.UTC().Format(time.DateOnly), c.Until.UTC().Format(time.DateOnly)
	switch {
	case c.Path == "":
		return "", false
	case now.After(c.Until):
		return fmt.Sprintf("api.tls_cert %s expired on %s, so clients refuse it; replace it by a certificate that is valid "+
			"today, and restart the daemon", c.Path, until), true
	case now.Before(c.From):
		return fmt.Sprintf("api.tls_cert %s is valid from %s on, so clients refuse it; replace it by a certificate that is "+
			"valid today, and restart the daemon", c.Path, from), true
	case c.Until.Sub(now) < certificateEnds:
		return fmt.Sprintf("api.tls_cert %s expires on %s; replace it and restart the daemon", c.Path, until), false
	}
	return "", false
}

// CheckSecrets reads the files of tokens, certificate and key as New does. Warnings are about
// files that are used all the same: the daemon does not stop scaling for a certificate.
func CheckSecrets(o Options, now time.Time) (warnings []string, err error) {
	c, err := ReadCertificate(o)
	if err != nil || c.Path == "" {
		return nil, err
	}
	if text, _ := c.Problem(now); text != "" {
		warnings = append(warnings, text)
	}
	if info, err := os.Stat(o.TLSKey); err == nil && info.Mode().Perm()&0o027 != 0 {
		warnings = append(warnings, fmt.Sprintf("api.tls_key %s can be used by others (mode %04o); allowed: 0600 or 0640 "+
			"(chmod 600 %s)", o.TLSKey, info.Mode().Perm(), o.TLSKey))
	}
	return warnings, nil
}
