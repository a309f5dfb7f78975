package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mailhaul/mailhaul/pop3proto/channel"
)

// readTLSCA reads the certificate authorities that replace those of the system, from a
// file or from all files in a folder.
func (p *parser) readTLSCA(v value, t *channel.Trust) {
	path, ok := p.path(v)
	if !ok {
		return
	}
	files := []string{path}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		files, err = filesIn(path)
	}
	var all []*x509.Certificate
	for _, file := range files {
		if err != nil {
			break
		}
		var text []byte
		if text, err = readPEM(file); err == nil {
			all = append(all, parseCertificates(text)...)
		}
	}
	switch {
	case err != nil:
		p.fail(v, "", "%v", err)
	case len(all) == 0:
		p.fail(v, "it must start with -----BEGIN CERTIFICATE-----", "%s holds no PEM certificate", quote(path))
	default:
		t.CAs, t.Pins = all, nil
	}
}

// filesIn returns the regular files in a folder, and the links to such files.
func filesIn(dir string) (files []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			files = append(files, file)
		}
	}
	return files, err
}

// readPEM reads a file of certificates or keys. It must be a regular file: loading the
// configuration could block for ever on a device or a pipe.
func readPEM(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s is not a file of certificates", quote(path))
	}
	return os.ReadFile(path)
}

// parseCertificates returns the certificates in a text, each once. It skips those that
// cannot be parsed.
func parseCertificates(text []byte) (all []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return all
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if block.Type == "CERTIFICATE" && err == nil && !slices.ContainsFunc(all, c.Equal) {
			all = append(all, c)
		}
	}
}

// loadClientCertificate loads the files that tls_cert and tls_key of one mapping name.
func (p *parser) loadClientCertificate(v value, lines keyLines, s *Security) {
	at := func(key string) value { return value{line: lines[key], where: v.where + ": " + key} }
	if !lines.has("tls_cert") {
		if lines.has("tls_key") {
			p.fail(at("tls_key"), "add tls_cert", "has no effect without tls_cert")
		}
		return
	}
	key, hint := at("tls_key"), ""
	if !lines.has("tls_key") {
		key, s.keyFile, hint = at("tls_cert"), s.certFile, "name its key with tls_key"
	}
	if s.certFile == "" || s.keyFile == "" {
		return // reading the path has failed, which is reported
	}
	certText, err := readPEM(s.certFile)
	if err != nil {
		p.fail(at("tls_cert"), "", "%v", err)
		return
	}
	if len(parseCertificates(certText)) == 0 {
		p.fail(at("tls_cert"), "it must hold -----BEGIN CERTIFICATE-----", "%s holds no PEM certificate", quote(s.certFile))
		return
	}
	keyText, err := readPEM(s.keyFile)
	if err != nil {
		p.fail(key, "", "%v", err)
		return
	}
	if info, err := os.Stat(s.keyFile); err == nil && info.Mode().Perm()&0o007 != 0 {
		p.fail(key, "chmod 600 "+s.keyFile, "everyone can read the key in %s", quote(s.keyFile))
	}
	if isEncryptedKey(keyText) {
		p.fail(key, "write one without: openssl pkey -in OLD -out NEW, then chmod 600 NEW", "the key in %s is encrypted, and mailhaul asks for no passphrase", quote(s.keyFile))
		return
	}
	pair, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		p.fail(key, hint, "%s", strings.TrimPrefix(err.Error(), "tls: "))
		return
	}
	s.Trust.Certificate = &pair
}

// isEncryptedKey reports whether one of the keys in a text is encrypted.
func isEncryptedKey(text []byte) bool {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return false
		}
		// RFC 5958 §3, and the older form of OpenSSL (RFC 1421 §4.6.1.1).
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return true
		}
	}
}
