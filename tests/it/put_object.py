"""Puts a file into a bucket with boto3: a client that is not ours. put_object.py ENDPOINT ACCESS_KEY SECRET_KEY BUCKET KEY FILE"""

import sys

import boto3

endpoint, access_key, secret_key, bucket, key, file = sys.argv[1:]
client = boto3.client(
    "s3",
    endpoint_url=endpoint,
    aws_access_key_id=access_key,
    aws_secret_access_key=secret_key,
    region_name="us-east-1",
)
client.upload_file(file, bucket, key)
