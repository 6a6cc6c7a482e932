#!/bin/sh
# Makes the stores of this folder, by keytool (OpenJDK 17) and openssl: the ones that people have. Valid for a century.
#
#   testdata/keystores/make.sh
#
# Passwords: store-secret, and key-secret where a key has its own.
set -eu
cd "$(dirname "$0")"
rm -f ./*.jks ./*.p12 ./*.pem ./*.crt ./*.key ./*.csr ./*.srl
days=36500

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.crt -days $days \
  -subj '/CN=test root' 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout middle.key -out middle.csr \
  -subj '/CN=test intermediate' 2>/dev/null
printf 'basicConstraints=critical,CA:true' > ext
openssl x509 -req -in middle.csr -CA root.crt -CAkey root.key -CAcreateserial -out middle.crt -days $days -extfile ext 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout client.key -out client.csr -subj '/O=Example/CN=client' 2>/dev/null
openssl x509 -req -in client.csr -CA middle.crt -CAkey middle.key -CAcreateserial -out client.crt -days $days 2>/dev/null
# It ended before anybody reads this.
openssl req -newkey rsa:2048 -nodes -keyout old.key -out old.csr -subj '/CN=old' 2>/dev/null
openssl x509 -req -in old.csr -CA root.crt -CAkey root.key -CAcreateserial -out old.crt -days 0 2>/dev/null

cat client.crt middle.crt > chain.pem
cp client.key key.pem
cp root.crt root.pem
cat old.crt > old.pem
cp old.key old-key.pem
cat key.pem chain.pem > both.pem
openssl pkcs8 -topk8 -in client.key -v2 aes-256-cbc -passout pass:key-secret -out key-encrypted.pem
openssl rsa -in client.key -traditional -aes128 -passout pass:key-secret -out key-traditional.pem 2>/dev/null

openssl pkcs12 -export -inkey client.key -in client.crt -certfile middle.crt -name client -passout pass:store-secret -out openssl.p12
keytool() { command keytool -noprompt -storepass store-secret "$@" 2>/dev/null; }
import="-importkeystore -srckeystore openssl.p12 -srcstoretype pkcs12 -srcstorepass store-secret -srcalias client"
keytool $import -destkeystore keytool.p12 -deststoretype pkcs12 -deststorepass store-secret
keytool $import -destkeystore legacy.p12 -deststoretype pkcs12 -deststorepass store-secret -J-Dkeystore.pkcs12.legacy
keytool $import -destkeystore one-password.jks -deststoretype jks -deststorepass store-secret
keytool $import -destkeystore two-passwords.jks -deststoretype jks -deststorepass store-secret -destkeypass key-secret
cp one-password.jks two-keys.jks
keytool -genkeypair -keystore two-keys.jks -storetype jks -alias other -keyalg EC -dname CN=other -validity $days -keypass store-secret
keytool -importcert -keystore trust.jks -storetype jks -alias root -file root.crt
keytool -importcert -keystore trust.jks -storetype jks -alias middle -file middle.crt
keytool -importcert -keystore trust.p12 -storetype pkcs12 -alias root -file root.crt
keytool -genkeypair -keystore jceks.jks -storetype jceks -alias other -keyalg EC -dname CN=other -validity $days -keypass store-secret
rm -f ext ./*.csr ./*.srl ./*.crt root.key middle.key client.key old.key
