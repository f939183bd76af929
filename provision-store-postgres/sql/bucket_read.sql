SELECT m.now, (SELECT b.state FROM provision.buckets AS b WHERE b.ns = $1 AND b.bucket = $2)
FROM provision.moment AS m
