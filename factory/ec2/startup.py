"""The builder's user data: the dead-man's switch and the user's own part, as MIME parts for cloud-init."""

from datetime import UTC, datetime, timedelta
from email import message_from_string
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path

from factory.console import ROOT, FactoryError
from factory.ec2.deadline import boothook
from factory.ec2.settings import Settings

LIMIT = 16384  # bytes: EC2's limit for user data


def user_data(settings: Settings) -> str:
    """User data for a builder that powers off after builder_hours; FactoryError if the user's part is bad."""
    message = MIMEMultipart()
    message.attach(MIMEText(boothook(datetime.now(UTC) + timedelta(hours=settings.builder_hours))))
    if settings.user_data_file:
        message.attach(part((ROOT / settings.user_data_file).resolve()))
    text = message.as_string()
    if len(text.encode()) > LIMIT:
        raise FactoryError(
            f"{settings.user_data_file} makes {len(text.encode())} bytes of user data, EC2 allows {LIMIT}",
            "Move long parts elsewhere and fetch them with an #include line and a URL",
        )
    return text


def part(path: Path) -> Message:
    """The user's file as a MIME part; FactoryError if cloud-init would not recognise its type."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise FactoryError(f"user_data_file {path} cannot be read: {error}", "Give a text file") from error
    if text.startswith(("Content-Type:", "MIME-Version:")):
        return message_from_string(text)
    if not text.startswith("#"):
        raise FactoryError(
            f"user_data_file {path} begins with {text[:20]!r}, which cloud-init does not recognise",
            "Begin it with #cloud-config, or #! and an interpreter",
        )
    return MIMEText(text)  # cloud-init determines the type of text/plain by its first line
