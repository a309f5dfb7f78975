package pop3test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"time"
)

// CertOptions describe a certificate to make.
type CertOptions struct {
	// Hosts are the names and IP addresses it is for; nil stands for
	// localhost, 127.0.0.1 and ::1. A name that is not the server's makes a
	// certificate that clients must refuse.
	Hosts []string
	// Name is the subject's common name, which some servers take for the user;
	// empty is pop3test.
	Name string
	// NotBefore and NotAfter bound its validity; zero stands for an hour ago
	// and for a day from now. A NotAfter in the past makes an expired one.
	NotBefore, NotAfter time.Time
}

// SelfSigned makes a certificate that is valid now for hosts, or for
// localhost, 127.0.0.1 and ::1 if none is given. caPEM is the same
// certificate for a client's pool of roots.
func SelfSigned(hosts ...string) (cert tls.Certificate, caPEM []byte, err error) {
	return Certificate(CertOptions{Hosts: hosts})
}

// Certificate makes a self-signed certificate as opts say. caPEM is the same
// certificate for a client's pool of roots. Errors are those of the system's
// random source.
func Certificate(opts CertOptions) (cert tls.Certificate, caPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: cmp.Or(opts.Name, "pop3test")},
		NotBefore:             opts.NotBefore,
		NotAfter:              opts.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = now.Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = now.Add(24 * time.Hour)
	}
	hosts := opts.Hosts
	if len(hosts) == 0 {
		hosts = []string{"localhost", "127.0.0.1", "::1"}
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// KeyPEM returns the private key of a certificate, as servers read it from a
// file.
func KeyPEM(cert tls.Certificate) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}
